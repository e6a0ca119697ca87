"""As much of ROS 2's ``launch`` and ``launch_ros`` as the launch files use: same modules, same argument names.

`install` puts them where the real ones would be; `execute` does what ``ros2 launch`` does with a description: it takes
arguments, refuses unknown and absent ones, evaluates substitutions and conditions, and gives the command lines.
"""

from __future__ import annotations

import sys
import types
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]


class Substitution:
    def perform(self, context: Mapping[str, str]) -> str:
        raise NotImplementedError


def text(value: Any, context: Mapping[str, str]) -> str:
    """What launch accepts as text: a string, a substitution, or a list of both."""
    if isinstance(value, str):
        return value
    if isinstance(value, Substitution):
        return value.perform(context)
    if isinstance(value, (list, tuple)):
        return "".join(text(v, context) for v in value)
    raise TypeError(f"neither text nor a substitution: {value!r}")


class LaunchConfiguration(Substitution):
    def __init__(self, variable_name: str, *, default: Any = None) -> None:
        self.variable_name = variable_name
        self.default = default

    def perform(self, context: Mapping[str, str]) -> str:
        if self.variable_name in context:
            return context[self.variable_name]
        if self.default is None:
            raise LookupError(f"launch configuration '{self.variable_name}' does not exist")
        return text(self.default, context)


class PathJoinSubstitution(Substitution):
    def __init__(self, substitutions: Sequence[Any]) -> None:
        self.substitutions = list(substitutions)

    def perform(self, context: Mapping[str, str]) -> str:
        return str(Path(*(text(s, context) for s in self.substitutions)))


class FindPackageShare(Substitution):
    def __init__(self, package: Any) -> None:
        self.package = package

    def perform(self, context: Mapping[str, str]) -> str:
        name = text(self.package, context)
        if name != "shelfscan":
            raise LookupError(f"package '{name}' not found")
        return str(ROOT)  # what is installed under share/shelfscan lies at the root of the checkout


class DeclareLaunchArgument:
    def __init__(
        self, name: str, *, default_value: Any = None, description: str | None = None, choices: Sequence[str] | None = None
    ) -> None:
        self.name, self.default_value, self.description, self.choices = name, default_value, description, choices


class SetEnvironmentVariable:
    def __init__(self, name: Any, value: Any, *, condition: Any = None) -> None:
        self.name, self.value, self.condition = name, value, condition


class IfCondition:
    def __init__(self, predicate_expression: Any) -> None:
        self._expression = predicate_expression

    def evaluate(self, context: Mapping[str, str]) -> bool:
        said = text(self._expression, context).lower()
        if said not in {"true", "false", "1", "0"}:
            raise ValueError(f"cannot evaluate the condition {said!r}")
        return said in {"true", "1"}


class ParameterValue:
    def __init__(self, value: Any, *, value_type: type | None = None) -> None:
        self.value, self.value_type = value, value_type


class Node:
    def __init__(
        self,
        *,
        executable: Any,
        package: Any = None,
        name: Any = None,
        namespace: Any = None,
        parameters: Sequence[Any] | None = None,
        remappings: Sequence[tuple[Any, Any]] | None = None,
        ros_arguments: Sequence[Any] | None = None,
        arguments: Sequence[Any] | None = None,
        condition: Any = None,
        output: str = "log",
        respawn: bool = False,
        respawn_delay: float | None = None,
        additional_env: Mapping[Any, Any] | None = None,
    ) -> None:
        self.executable, self.package, self.name, self.namespace = executable, package, name, namespace
        self.parameters, self.remappings, self.condition = parameters or [], remappings or [], condition
        self.output, self.respawn, self.respawn_delay = output, respawn, respawn_delay


class LaunchDescription:
    def __init__(self, initial_entities: Sequence[Any] | None = None) -> None:
        self.entities = list(initial_entities or [])


@dataclass(frozen=True)
class Started:
    """One process that launch would start."""

    package: str
    executable: str
    namespace: str
    parameters: dict[str, str]
    remappings: dict[str, str]
    respawn: bool


@dataclass
class Outcome:
    started: list[Started] = field(default_factory=list)
    environment: dict[str, str] = field(default_factory=dict)


def execute(description: LaunchDescription, given: Mapping[str, str]) -> Outcome:
    """Carry the description out. Raises `LookupError` for an argument that is absent or that nobody declared."""
    declared = {e.name for e in description.entities if isinstance(e, DeclareLaunchArgument)}
    if set(given) - declared:
        raise LookupError(f"nobody declared {sorted(set(given) - declared)}")
    context = dict(given)
    outcome = Outcome()
    for entity in description.entities:
        condition = getattr(entity, "condition", None)
        if condition is not None and not condition.evaluate(context):
            continue
        if isinstance(entity, DeclareLaunchArgument):
            if entity.name not in context:
                if entity.default_value is None:
                    raise LookupError(f"argument '{entity.name}' ({entity.description}) is required")
                context[entity.name] = text(entity.default_value, context)
        elif isinstance(entity, SetEnvironmentVariable):
            outcome.environment[text(entity.name, context)] = text(entity.value, context)
        elif isinstance(entity, Node):
            outcome.started.append(_start(entity, context))
        else:
            raise TypeError(f"not a launch action: {entity!r}")
    return outcome


def _start(node: Node, context: Mapping[str, str]) -> Started:
    parameters: dict[str, str] = {}
    for mapping in node.parameters:
        for name, value in mapping.items():
            if not isinstance(value, ParameterValue) or value.value_type is not str:
                raise TypeError(f"parameter {name} would be guessed at: wrap it in ParameterValue(..., value_type=str)")
            parameters[name] = text(value.value, context)
    return Started(
        package=text(node.package, context),
        executable=text(node.executable, context),
        namespace=text(node.namespace, context),
        parameters=parameters,
        remappings={text(a, context): text(b, context) for a, b in node.remappings},
        respawn=node.respawn,
    )


def modules() -> dict[str, types.ModuleType]:
    """The fake modules by name, as ``sys.modules`` wants them."""
    contents: dict[str, dict[str, Any]] = {
        "launch": {"LaunchDescription": LaunchDescription},
        "launch.actions": {"DeclareLaunchArgument": DeclareLaunchArgument, "SetEnvironmentVariable": SetEnvironmentVariable},
        "launch.conditions": {"IfCondition": IfCondition},
        "launch.substitutions": {"LaunchConfiguration": LaunchConfiguration, "PathJoinSubstitution": PathJoinSubstitution},
        "launch_ros": {},
        "launch_ros.actions": {"Node": Node},
        "launch_ros.parameter_descriptions": {"ParameterValue": ParameterValue},
        "launch_ros.substitutions": {"FindPackageShare": FindPackageShare},
    }
    made = {}
    for name, names in contents.items():
        made[name] = types.ModuleType(name)
        made[name].__dict__.update(names)
    return made


def install(monkeypatch: Any) -> None:
    """Let imports find the fakes for the length of a test, and nothing that was imported with the real ones."""
    for name, module in modules().items():
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "shelfscan.ros.launching", raising=False)
