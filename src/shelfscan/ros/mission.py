"""Node ``mission``: runs one mission at a time through Nav2 and the capture node, and keeps its state in the ledger.

A mission without an end in the run's ledger is resumed when the node starts, so killing it costs a detour at most.
"""

from __future__ import annotations

import math
import sys
import threading
import time

from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.action.server import ServerGoalHandle
from rclpy.callback_groups import MutuallyExclusiveCallbackGroup, ReentrantCallbackGroup
from rclpy.node import Node
from sensor_msgs.msg import BatteryState
from shelfscan_msgs.action import ScanStore
from shelfscan_msgs.msg import MissionState
from shelfscan_msgs.srv import Capture
from std_msgs.msg import Bool
from std_srvs.srv import Trigger

from shelfscan.bootstrap import make_rules, open_ledger, plan_of, second_looks_of
from shelfscan.errors import BadInput
from shelfscan.mission import machine
from shelfscan.mission.machine import Progress
from shelfscan.mission.runner import CaptureOutcome, MissionRunner
from shelfscan.model.mission import MissionPhase, MissionPlan
from shelfscan.ros import qos
from shelfscan.ros.convert_results import mission_state_msg
from shelfscan.ros.lifecycle import Level, ShelfscanNode, spin_node
from shelfscan.ros.link import Link
from shelfscan.ros.navigator import Nav2Navigator

#: The capture node gives silent cameras 5 s, and a killed one is back in about as long.
#: Together with waiting for the trigger, the rendering and the transforms that is 22 s at most.
CAPTURE_TIMEOUT_S = 25.0
CAPTURE_ABSENT_S = 20.0
STATE_EVERY_S = 1.0


class CaptureClient:
    """Asks the capture node; a `Capturer`. A node that is gone or silent is a failed capture, never a hang."""

    def __init__(self, node: Node) -> None:
        self._node, self._links = node, 0
        self._link: Link | None = None
        self._client = node.create_client(Capture, "capture", callback_group=ReentrantCallbackGroup())

    def __call__(self, mission_id: str, viewpoint_id: str) -> CaptureOutcome:
        if not self._client.wait_for_service(timeout_sec=CAPTURE_ABSENT_S):
            return CaptureOutcome(False, reason=f"sensor: no capture node for {CAPTURE_ABSENT_S:.0f} s")
        answered = threading.Event()
        future = self._client.call_async(Capture.Request(mission_id=mission_id, viewpoint_id=viewpoint_id))
        future.add_done_callback(lambda _: answered.set())
        if not answered.wait(CAPTURE_TIMEOUT_S):
            self._client.remove_pending_request(future)
            self._renew()
            return CaptureOutcome(False, reason=f"sensor: no answer from the capture node for {CAPTURE_TIMEOUT_S:.0f} s")
        answer = future.result()
        return CaptureOutcome(bool(answer.ok), str(answer.capture_id), str(answer.reason))

    def _renew(self) -> None:
        """Ask as a new participant from now on: see `ros.link`."""
        before, self._links = self._link, self._links + 1
        self._link = Link(self._node, self._links)
        self._client = self._link.node.create_client(Capture, "capture", callback_group=ReentrantCallbackGroup())
        if before is not None:
            before.close()


class MissionNode(ShelfscanNode):
    """See the module's text."""

    def __init__(self) -> None:
        super().__init__("mission", threads=6)

    def acquire(self) -> None:
        self._bundle = self.load_store()
        self._settings = settings = self.load_settings()
        self._rules, self._limits = make_rules(settings)
        self._most_hours = settings.mission.most_hours
        self._ledger = open_ledger(self.run_dir, self._bundle.store.site, settings)
        self._navigator = Nav2Navigator(self)
        self._capture = CaptureClient(self)
        self._lock = threading.Lock()
        self._runner: MissionRunner | None = None
        self._thread: threading.Thread | None = None
        self._ended = threading.Event()
        self._progress: Progress | None = None
        self._phase, self._text, self._told = MissionPhase.IDLE, "", 0.0
        self._battery, self._stopped = math.nan, False
        self._states = self.create_publisher(MissionState, "mission", qos.latched())
        self._battery_states = self.create_subscription(BatteryState, "/battery_state", self._on_battery, qos.sensor())
        # Bases tell of their emergency stop under many names; this one is remapped. Nobody publishing is no stop.
        self._stops = self.create_subscription(Bool, "/emergency_stop", self._on_stop, qos.sensor())
        commands = MutuallyExclusiveCallbackGroup()
        self._answering = [
            self.create_service(Trigger, name, answer, callback_group=commands)
            for name, answer in (("pause", self._on_pause), ("resume", self._on_resume), ("cancel", self._on_cancel))
        ]

    def begin(self) -> None:
        self._tell(None, MissionPhase.IDLE, "")
        self.report(Level.OK, "waiting for a mission")
        # Before orders are taken: one robot, one mission.
        mission_id = machine.unended(self._ledger.read(kinds=machine.KINDS))
        if mission_id:
            self._launch(MissionPlan(mission_id, self._bundle.store.site, ()), resume=True, by_itself=True)
        self._server = ActionServer(
            self,
            ScanStore,
            "scan_store",
            execute_callback=self._execute,
            goal_callback=self._on_goal,
            cancel_callback=lambda goal: CancelResponse.ACCEPT,
            callback_group=ReentrantCallbackGroup(),
        )

    def halt(self) -> None:
        self._server.destroy()
        # The robot must not go on driving to where nobody waits for it. The mission stays open in the ledger.
        with self._lock:
            runner, thread = self._runner, self._thread
        if runner is not None and thread is not None:
            runner.abandon()
            thread.join(timeout=4.0)

    def release(self) -> None:
        self._ledger.close()

    # -- the mission's thread -------------------------------------------------------------------------------------

    def _launch(self, plan: MissionPlan, *, resume: bool, by_itself: bool = False) -> None:
        """Run a mission in a thread of its own."""
        self._ended.clear()
        self._runner = runner = MissionRunner(
            plan,
            self._ledger,
            self._navigator,
            self._capture,
            clock=time.time_ns,
            wait=time.sleep,
            rules=self._rules,
            limits=self._limits,
            listener=self._tell,
            battery=lambda: self._battery,
            stopped=lambda: self._stopped,
            until_ns=time.time_ns() + int(self._most_hours * 3600e9) if self._most_hours else None,
            second=lambda done: second_looks_of(self._bundle, self._settings, self._ledger, done),
        )

        def run() -> None:
            self.report(Level.OK, "mission running", mission=plan.mission_id)
            runner.run(resume=resume, by_itself=by_itself)
            self.report(Level.OK, "waiting for a mission", last=plan.mission_id)
            with self._lock:
                self._runner = None
            self._ended.set()

        self._thread = self.start_thread(run, "mission")

    def _tell(self, progress: Progress | None, phase: MissionPhase, text: str) -> None:
        """Publish the state when it changed, and now and then."""
        now = time.monotonic()
        same = (phase, text) == (self._phase, self._text) and progress == self._progress
        if same and now - self._told < STATE_EVERY_S:
            return
        self._progress, self._phase, self._text, self._told = progress, phase, text, now
        self._states.publish(self._state())

    def _state(self) -> MissionState:
        return mission_state_msg(
            self._progress,
            self._phase,
            self._text,
            site=self._bundle.store.site,
            stamp_ns=time.time_ns(),
            rules=self._rules,
            battery=self._battery,
        )

    # -- callbacks ------------------------------------------------------------------------------------------------

    def _on_battery(self, msg: BatteryState) -> None:
        self._battery = float(msg.percentage)

    def _on_stop(self, msg: Bool) -> None:
        if self._stopped != bool(msg.data):
            self.get_logger().warning("emergency stop" if msg.data else "the emergency stop is over")
        self._stopped = bool(msg.data)

    def _on_goal(self, goal: ScanStore.Goal) -> GoalResponse:
        running = self._runner
        if running is None or running.mission_id == goal.mission_id:
            return GoalResponse.ACCEPT
        self.get_logger().warning(f"mission {goal.mission_id!r} refused: {running.mission_id!r} is running")
        return GoalResponse.REJECT

    def _execute(self, goal: ServerGoalHandle) -> ScanStore.Result:
        """Start the goal's mission, or go along with it when it runs already; returns at its end."""
        request = goal.request
        try:
            self._start(request)
        except BadInput as e:
            goal.abort()
            return ScanStore.Result(phase=str(MissionPhase.FAILED), message="; ".join(e.problems))
        cancelled = False
        while not self._ended.wait(STATE_EVERY_S):
            if goal.is_cancel_requested and not cancelled:
                cancelled = True
                self._cancel("cancelled by the action's client")
            goal.publish_feedback(ScanStore.Feedback(state=self._state()))
        progress = machine.project(self._ledger.read(kinds=machine.KINDS), request.mission_id)
        phase = progress.ended if progress is not None and progress.ended is not None else MissionPhase.FAILED
        if goal.is_cancel_requested and phase is MissionPhase.CANCELLED:
            goal.canceled()
        elif phase is MissionPhase.DONE:
            goal.succeed()
        else:
            goal.abort()
        return ScanStore.Result(
            phase=str(phase),
            message=self._text,
            viewpoints=len(progress.plan.viewpoints) if progress else 0,
            scanned=len(progress.done) if progress else 0,
        )

    def _start(self, request: ScanStore.Goal) -> None:
        with self._lock:
            if self._runner is not None:
                if request.resume and self._progress is not None and self._progress.paused:
                    self._runner.resume()
                return
            if not request.mission_id:
                raise BadInput("mission_id: a mission needs an id")
            known = machine.project(self._ledger.read(kinds=machine.KINDS), request.mission_id)
            if known is not None and not request.resume:
                raise BadInput(
                    f"mission_id: mission {request.mission_id!r} is in the ledger already; set resume or take another id"
                )
            if known is None and request.resume:
                raise BadInput(f"mission_id: the ledger knows no mission {request.mission_id!r} to resume")
            plan = known.plan if known is not None else self._plan(request)
            self._launch(plan, resume=request.resume)

    def _plan(self, request: ScanStore.Goal) -> MissionPlan:
        return plan_of(
            self._bundle, self._settings, request.mission_id, aisles=list(request.aisles), bins=list(request.bins)
        ).plan

    def _on_pause(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        runner = self._runner
        if runner is not None and not runner.pause("asked by a person"):
            response.message = f"mission {runner.mission_id} is on its way home"
            return response
        return self._answer(response, runner, "paused")

    def _on_resume(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        runner = self._runner
        if runner is not None:
            runner.resume()
        return self._answer(response, runner, "goes on")

    def _on_cancel(self, request: Trigger.Request, response: Trigger.Response) -> Trigger.Response:
        return self._answer(response, self._cancel("asked by a person"), "cancelled")

    def _cancel(self, reason: str) -> MissionRunner | None:
        runner = self._runner
        if runner is not None:
            runner.cancel(reason)
        return runner

    @staticmethod
    def _answer(response: Trigger.Response, runner: MissionRunner | None, done: str) -> Trigger.Response:
        response.success = runner is not None
        response.message = f"mission {runner.mission_id} {done}" if runner is not None else "no mission is running"
        return response


def main() -> None:
    """Entry point."""
    sys.exit(spin_node(MissionNode))


if __name__ == "__main__":
    main()
