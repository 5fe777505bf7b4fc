"""Write the names of the ten digits in many languages: datasets/avtdigits/names.csv.

    pip install num2words==0.5.14      # in an environment of its own; nothing else needs it
    python tools/digit_names.py        # writes the table, and prints what datasets/avtdigits/names.py says of it

The names are facts, and num2words (LGPL) is where they are looked up. Each is in Unicode's composition (NFC). Which
language is tested follows from its branch by `part_of`, and from nothing that was measured.
"""

from __future__ import annotations

import csv
import sys
import unicodedata
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from mmlbench.datasets.avtdigits.names import TABLE, Name, letters_of, longest_of  # noqa: E402
from mmlbench.storage.hashing import file_digest  # noqa: E402

#: Branch -> its languages, by ISO 639 code. No language stands here twice under the names of two countries.
BRANCHES = {
    "Germanic": ("da", "de", "en", "is", "nl", "no", "sv"),
    "Romance": ("ca", "es", "fr", "it", "pt", "ro"),
    "Slavic": ("be", "cs", "pl", "ru", "sk", "sl", "sr", "uk"),
    "Baltic": ("lt", "lv"),
    "Indo-Iranian": ("bn", "fa", "tg"),
    "Celtic": ("cy",),
    "Uralic": ("fi", "hu"),
    "Turkic": ("az", "kk", "tr"),
    "Semitic": ("am", "ar", "he"),
    "Dravidian": ("kn", "te"),
    "Austronesian": ("id", "tet"),
    "Northeast Caucasian": ("ce",),
    "Japonic": ("ja",),
    "Koreanic": ("ko",),
    "Kra-Dai": ("th",),
    "Austroasiatic": ("vi",),
    "constructed": ("eo",),
}
#: What num2words calls a language, where that is not its ISO 639 code.
CALLED = {"kk": "kz"}


def part_of(language: str) -> str:
    """Return the part whose samples show a language.

    By the order of their codes the last language of each branch is tested, the last two of a branch of six or more.
    The one before them is val, where the branch has three or more. What is left is trained on, and so is a language
    without a relative.
    """
    branch = next(languages for languages in BRANCHES.values() if language in languages)
    tested = 0 if len(branch) == 1 else 1 if len(branch) < 6 else 2
    place = len(branch) - 1 - sorted(branch).index(language)
    return "test" if place < tested else "val" if place == tested and len(branch) > 2 else "train"


def main() -> int:
    """Write the table."""
    from num2words import num2words

    lines = []
    for language in sorted(language for languages in BRANCHES.values() for language in languages):
        for digit in range(10):
            name = unicodedata.normalize("NFC", num2words(digit, lang=CALLED.get(language, language)))
            lines.append(Name(language, part_of(language), digit, name))
    with TABLE.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Name._fields)
        writer.writerows(lines)
    letters = letters_of(lines)
    sys.stdout.write(f'SHA256 = "{file_digest(TABLE)}"\n')
    sys.stdout.write(f'VOCABULARY, LETTERS = {letters.vocabulary}, "{letters.hash}"\n')
    sys.stdout.write(f"LONGEST = {longest_of(lines)}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
