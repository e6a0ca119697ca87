"""Small fonts for rendering: ``python -m training.reader.fonts --from DIR … --out FOLDER`` (needs the package fonttools).

Takes the fonts whose licence allows their use in anything (OFL, Apache-2.0, Bitstream Vera) out of folders with font files and
keeps only the letters that a tag needs, so that rendering needs no fonts of the machine it runs on. ``heldout_`` files are never
rendered for training.
"""

# ruff: noqa: E501
from __future__ import annotations

import argparse
import string
import subprocess
import sys
from pathlib import Path

#: Stems of the fonts that prices are printed in; the second list is for measuring alone.
TRAIN = (
    "DejaVuSans-Bold DejaVuSansCondensed-Bold DejaVuSerif-Bold DejaVuSansMono-Bold DejaVuSans "
    "LiberationSans-Bold LiberationSans-Regular LiberationSerif-Bold LiberationMono-Bold "
    "Roboto-Black Roboto-Medium RobotoCondensed-Bold Lato-Black Lato-Bold OpenSans-ExtraBold OpenSans-CondBold "
    "BebasNeue-Bold BebasNeue-Regular Cabin-Bold Dosis-Bold Inter-Black Inter-Bold Inter-Medium InterDisplay-ExtraBold "
    "LeagueSpartan-Bold YanoneKaffeesatz-Bold PTS75F PTN77F PTF75F Mplus1-Black Mplus1-Bold MplusCode50-Bold "
    "DSEG7Classic-Bold DSEG7Modern-Bold DSEG7ClassicMini-Regular DSEG14Classic-Bold"
).split()
HELD_OUT = "Roboto-Bold OpenSans-Bold Lato-Heavy Mplus2-ExtraBold PTC75F DSEG7Modern-Regular Dosis-ExtraBold LiberationSans-BoldItalic".split()
CJK = ("NotoSansCJK-Bold", "NotoSansCJK-Regular", "NotoSerifCJK-Bold")
LETTERS = string.digits + ".,:-€$£¥%/+()=*'" + string.ascii_letters
#: Japanese letters and common words of tags.
JAPANESE = (
    "アイウエオカキクケコサシスセソタチツテトナニヌネノハヒフヘホマミムメモヤユヨラリルレロワヲンーガギグゲゴザジズゼゾダヂヅデドバビブベボパピプペポッャュョ"
    "あいうえおかきくけこさしすせそたちつてとなにぬねのはひふへほまみむめもやゆよらりるれろわをんっゃゅょがぎぐげござじずぜぞだでどばびぶべぼぱぴぷぺぽ"
    "円税込抜本体価格当品名袋小大中茶水牛乳米味噌油酢塩糖醤肉魚卵豆腐麺飯菓子飴甘辛特売割引限定期間広告日替国産新鮮北海道入個本枚点箱缶瓶"
)


def main() -> None:
    p = argparse.ArgumentParser(description="Make small fonts for rendering.")
    p.add_argument("--from", dest="folders", type=Path, nargs="+", required=True)
    p.add_argument("--out", type=Path, required=True)
    args = p.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = {
        f.stem: f for folder in args.folders for f in sorted(folder.rglob("*")) if f.suffix.lower() in (".ttf", ".otf", ".ttc")
    }
    for stem in (*TRAIN, *HELD_OUT, *CJK):
        if stem not in found:
            print(f"{stem}: not found", file=sys.stderr)
            continue
        text = LETTERS + (JAPANESE if stem in CJK else "")
        prefix = "heldout_" if stem in HELD_OUT else "cjk_" if stem in CJK else ""
        out = args.out / f"{prefix}{stem}.otf"
        command = [sys.executable, "-m", "fontTools.subset", str(found[stem]), f"--text={text}", f"--output-file={out}",
                   "--no-hinting", "--layout-features=", "--drop-tables+=GSUB,GPOS,GDEF"]  # fmt: skip
        subprocess.run(command + (["--font-number=0"] if found[stem].suffix == ".ttc" else []), check=True)


if __name__ == "__main__":
    main()
