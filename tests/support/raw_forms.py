"""The downloaded datasets as users have them, in miniature: which files there are, and what befalls them.

It is the one list of faults of raw files and of lists. A fault that every file of a kind may have, and this one
can't, stands in `absent` with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import Enum
from pathlib import Path

import harmed_archives as archives
import harmed_files as files
import harmed_lists as listed
import mini_av
import mini_features
import mini_gestures
import mini_texts
import mini_views
import numpy as np
from harmed_files import Call, Harm, Harms, of_pickles
from harmed_lists import OF_LISTS, of_texts, replaced

from mmlbench.datasets.hmdb51 import CLASSES as HMDB_CLASSES


class At(Enum):
    """Where a file lies."""

    RAW = "raw"
    LISTS = "lists"


@dataclass(frozen=True)
class Victim:
    """One file of a form, which faults befall.

    Attributes:
        what: how the page calls it. path: below the raw folder or that of the lists. harms: of its kind, and its own.
        absent: fault of its kind -> why this file can't have it. says: fault -> what the line says here, where it
            differs from what is said of others. taken: faults that `prepare` takes. like: another file of the form,
            whose faults befall this one too; its own alone are tried.
        renewed: changes it so that it is whole, and another file than before; None where some other bytes do.
    """

    what: str
    path: str
    harms: Harms
    at: At = At.RAW
    absent: Mapping[str, str] = field(default_factory=dict)
    says: Mapping[str, str] = field(default_factory=dict)
    taken: frozenset[str] = frozenset()
    like: str = ""
    renewed: Harm | None = None

    def faults(self) -> Harms:
        """Return what befalls it, with what the line says here."""
        return {
            name: (harm, self.says.get(name, words))
            for name, (harm, words) in self.harms.items()
            if name not in self.absent
        }

    @property
    def is_list(self) -> bool:
        """Whether it is a list of ids, or of texts."""
        return "a line gone" in self.harms

    @property
    def altered(self) -> Harm:
        """What changes it so that it is whole, and another file than before."""
        if self.renewed is not None:
            return self.renewed
        return listed.a_line_gone if self.is_list else files.altered

    def refused(self) -> Harms:
        """Return what befalls it and stops `prepare`."""
        return {name: found for name, found in self.faults().items() if name not in self.taken}


#: Writes a miniature into a folder; returns its raw files, and its lists where there are any.
Build = Callable[[Path], tuple[Path, Path | None]]


@dataclass(frozen=True)
class Form:
    """A form in which a dataset circulates.

    Attributes:
        dataset: its name. name: of the form; '' where there is one. victims: its kinds of files.
        params: of the preparation. own_lists: whether its lists lie in the raw folder, and are taken from there.
        given: what of the raw folder is given to --raw; '' for all of it.
    """

    dataset: str
    name: str
    build: Build
    victims: tuple[Victim, ...]
    params: tuple[str, ...] = ("size=16",)
    own_lists: bool = False
    given: str = ""

    def words(self, raw: Path, lists: Path | None, root: Path) -> list[str]:
        """Return the command."""
        words = ["prepare", self.dataset, "--raw", str(raw / self.given)]
        words += ["--lists", str(lists)] if lists else []
        words += [word for pair in self.params for word in ("--dataset-set", pair)]
        return [*words, "--workers", "1", "--cache", str(root)]


# ---- lists -------------------------------------------------------------------------------------------------------
NO_CELLS = "its lines have one cell"
IDS_ALONE = {"semicolons": NO_CELLS, "a line without its cells": NO_CELLS}


def changed(other: tuple[str, str] | None = None, label: tuple[str, str] | None = None) -> Harms:
    """Return how a list may differ from the official one.

    Args:
        other: an id, and one that has no file. label: of a line, and one that is none; both with what is around.
    """
    found: Harms = {"an id without a file": (replaced(*other), "")} if other else {}
    return found | ({"another label": (replaced(*label), "")} if label else {})


def a_list(
    name: str,
    more: Harms,
    at: At = At.LISTS,
    absent: Mapping[str, str] | None = None,
    says: Mapping[str, str] | None = None,
) -> Victim:
    """Return a list of ids."""
    return Victim(name, name, OF_LISTS | more, at, absent or {}, says or {})


CREMAD_LISTS = (
    a_list("train.csv", changed(("1010_IEO_NEU", "1010_XXX_NEU"), (",ANG", ",XXX"))),
    a_list("test.csv", changed(("1003_IEO", "1003_XXX"), (",ANG", ",XXX"))),
    a_list("validation.txt", changed(("_IEO_", "_XXX_")), absent=IDS_ALONE),
    a_list("actor_folds.csv", changed(("1003", "9999"), (",val,", ",xxx,"))),
)
AVE_LISTS = tuple(
    a_list(f"{part}Set.txt", changed(("&-video", "&-other"), (f"{kind}&", "Hum&")), At.RAW)
    for part, kind in (("train", "Church bell"), ("val", "Bark"), ("test", "Church bell"))
)
UCF_LISTS = (
    a_list("trainlist01.txt", changed(("g15", "g99"), ("c01.avi 3", "c01.avi 99"))),
    a_list("testlist01.txt", changed(("g01", "g99")), absent=IDS_ALONE),
)


# ---- videos, sounds, pictures ------------------------------------------------------------------------------------
SOUND_OF_FLV = "the FLV's sound is taken then"


def cremad(folder: Path) -> tuple[Path, Path]:
    """Write videos and sound; one clip has no WAV."""
    raw, lists = mini_av.cremad(folder, 5)
    (raw / "AudioWAV" / "1002_IEO_ANG_XX.wav").unlink()
    return raw, lists


def _both(build: Callable[[Path], Path]) -> Build:
    """Return a builder whose lists lie among the raw files."""

    def made(folder: Path) -> tuple[Path, Path]:
        raw = build(folder)
        return raw, raw

    return made


CREMAD = (
    Form("cremad", "videos", cremad, (
        Victim("FLV", "VideoFlash/1001_IEO_ANG_XX.flv", files.OF_VIDEOS),
        Victim("FLV with the sound", "VideoFlash/1002_IEO_ANG_XX.flv", files.STREAMS, like="FLV"),
        Victim("WAV", "AudioWAV/1001_IEO_ANG_XX.wav", files.OF_SOUNDS, taken=frozenset({"missing"})),
        *CREMAD_LISTS,
    )),
    Form("cremad", "frames", lambda folder: mini_av.cremad(folder, 5, source="jpg"), (
        Victim("JPEG", "Image-01-FPS/1001_IEO_ANG_XX/00002.jpg", files.OF_PICTURES),
    )),
)  # fmt: skip
AVE = (
    Form("ave", "", _both(lambda folder: mini_av.ave(folder, 3)), (
        Victim("MP4", "AVE/-video_0000.mp4", files.OF_VIDEOS_WITH_SOUND), *AVE_LISTS,
    ), own_lists=True),
)  # fmt: skip
KINETICS_SOUNDS = (
    Form("kinetics_sounds", "", lambda folder: mini_av.kinetics_sounds(folder, 8), (
        # where a missing clip was is not known
        Victim("MP4", "train/-clip_00001_000007_000017.mp4", files.OF_VIDEOS_WITH_SOUND,
               says={"missing": "-clip_00001_7.mp4 is missing"}),
        *(a_list(name, changed((clip, "-clip_99999_"), (",10,", ",10,7")))
          for name, clip in (("my_train.txt", "-clip_00001_"), ("my_test.txt", "-clip_00003_"))),
    )),
)  # fmt: skip
_CLIP = "kind_00/-clip_00000_000000_000010"
KINETICS_SOUNDS_34 = (
    Form("kinetics_sounds_34", "", lambda folder: (mini_av.kinetics_sounds_34(folder), None), (
        Victim("JPEG", f"visual/train_img/Image-01-FPS/{_CLIP}/00002.jpg", files.OF_PICTURES),
        Victim("WAV", f"audio/train/{_CLIP}.wav", files.OF_SOUNDS),
    )),
)  # fmt: skip
VGGSOUND = (
    Form("vggsound", "", lambda folder: mini_av.vggsound(folder, 12), (
        Victim("MP4", "train/-vid000007C_000030.mp4", files.OF_VIDEOS_WITH_SOUND,
               says={"missing": "-vid000007C_000030.mp4 is missing"}),
        Victim("JPEG", "video/train-set-img/Image-01-FPS/-vid000014C_000030.mp4/00002.jpg", files.OF_PICTURES),
        a_list("vggsound.csv", changed(("-vid000007C", "-other0007C"), ("vroom", "wroom")),
               says={"empty": "names no training clip", "missing": "has no vggsound.csv"}),
        a_list("test.csv", changed(("-vid000000C", "-other0000C"), ("parrot", "parot"))),
    )),
)  # fmt: skip
FEW = ("size=16", "frames=2", "clip=middle")
UCF101 = (
    Form("ucf101", "", mini_views.ucf_videos, (
        Victim("AVI", "UCF-101/YoYo/v_YoYo_g01_c01.avi", files.OF_VIDEOS), *UCF_LISTS,
    ), FEW, own_lists=True),
)  # fmt: skip
_WAVE = f" {HMDB_CLASSES.index('wave')}"
HMDB51 = (
    Form("hmdb51", "videos", mini_views.hmdb_videos, (
        Victim("AVI", "hmdb51_org/wave/Film_2_wave_u_nm_np1_ba_goo_4.avi", files.OF_VIDEOS),
        a_list("train_list1.txt", changed(("wave/Film_2", "wave/Film_9"), (_WAVE, " 99"))),
        a_list("test_list1.txt", changed(("wave/April_09", "wave/April_99"), (_WAVE, " 99"))),
        a_list("wave_test_split2.txt", changed(("Film_2", "Film_9"), (".avi 2", ".avi 7"))),
    ), FEW),
    Form("hmdb51", "published frames", mini_views.hmdb_frames, (
        Victim("JPEG", "tvl1_flow/v/Film_2_wave_u_nm_np1_ba_goo_4/frame000007.jpg", files.OF_PICTURES),
    ), FEW),
)  # fmt: skip


def shaded(folder: Path) -> tuple[Path, Path]:
    """Write the published images."""
    return mini_views.modelnet_shaded(folder, mini_views.modelnet_meshes(folder)[0])


MODELNET40 = (
    Form("modelnet40", "meshes", mini_views.modelnet_meshes, (
        Victim("OFF", "ModelNet40/bowl/train/bowl_0001.off", files.OF_MESHES),
        *(a_list(f"{part}.txt", changed((f"bowl_000{k}", f"bowl_099{k}"), ("\t2", "\t99")))
          for part, k in (("train", 2), ("test", 9))),
    )),
    Form("modelnet40", "shaded images", shaded, (
        Victim("PNG", "modelnet40_images_new_12x/bowl/train/bowl_0001.obj.shaded_v007.png", files.OF_PICTURES),
    )),
)  # fmt: skip
NVGESTURE = (
    Form("nvgesture", "", mini_gestures.nvgesture, (
        Victim("colour AVI", "Video_data/class_02/subject7_r0/sk_color.avi", files.OF_VIDEOS),
        Victim("depth AVI", "Video_data/class_02/subject7_r0/sk_depth.avi", files.OF_VIDEOS),
        *(a_list(name, changed((f"subject{one}_r0", f"subject{one}_r9"), ("label:3", "label:77")), At.RAW)
          for name, one in zip(mini_gestures.NAMES.values(), (7, 8), strict=True)),
    ), ("size=16", "frames=2"), own_lists=True),
)  # fmt: skip

# ---- pictures and texts ------------------------------------------------------------------------------------------
TEXTS = ("size=16", "least=1")


def a_list_of_texts(path: str, more: Harms, at: At = At.LISTS, absent: Mapping[str, str] | None = None) -> Victim:
    """Return a list with texts in it."""
    return Victim(Path(path).name, path, OF_LISTS | of_texts() | more, at, absent or {})


def readable(build: Callable[[Path], tuple[Path, Path]]) -> Build:
    """Return a builder whose lists hold UTF-8 alone, so that another dress changes nothing in them."""

    def made(folder: Path) -> tuple[Path, Path]:
        found = build(folder)
        for path in sorted(folder.rglob("*")):
            if path.suffix in (".tsv", ".csv"):
                path.write_text(listed.text_of(path), encoding="utf-8")
        return found

    return made


JSON = {"semicolons": "JSON has no mark between cells"}
PYTHON = {"semicolons": "a line is a Python list"}
OF_TEXT_FILES: Harms = {
    **files.OF_ITEMS,
    **of_texts(alone=True),
    "a picture": (files.to_picture, "is a picture"),
    "cut short": (files.cut, ""),
    **{name: found for name, found in listed.DRESSES.items() if name != "semicolons"},
}
MVSA_SINGLE = (
    Form("mvsa_single", "files", mini_texts.mvsa_single, (
        Victim("JPEG", "data/10.jpg", files.OF_PICTURES),
        Victim("text", "data/10.txt", OF_TEXT_FILES, absent={"cut short": "a text may end anywhere"}),
        *(a_list(name, changed((key, "\n99999"), ("neutral", "neural")))
          for name, key in (("train.csv", "\n24"), ("dev.csv", "\n38"), ("test.csv", "\n80"))),
    ), TEXTS),
    Form("mvsa_single", "JSON lines", mini_texts.mvsa_single, (
        a_list_of_texts("train.jsonl", changed(("data/24.jpg", "data/99999.jpg"), ('"neutral"', '"neural"')),
                        absent=JSON),
    ), (*TEXTS, "source=jsonl")),
)  # fmt: skip


def _tweets(name: str, build: Callable[[Path], tuple[Path, Path]], pictures: str) -> tuple[Form, ...]:
    victims = [Victim("JPEG", f"{pictures}/17_00_100.jpg", files.OF_PICTURES)]
    for part, k in (("train", 1), ("dev", 3), ("test", 9)):
        shown = f"17_{k:02d}_{100 + k}"
        more = changed((shown, "17_99_999"), ("\t1\t17_", "\t7\t17_"))
        victims.append(a_list_of_texts(f"{part}.tsv", more))
    return (Form(name, "", readable(build), tuple(victims), TEXTS, own_lists=True),)


TWITTER15 = _tweets("twitter15", mini_texts.twitter15, "twitter2015_images")
TWITTER17 = _tweets("twitter17", mini_texts.twitter17, "twitter2017_images")
SARCASM = (
    Form("sarcasm", "", mini_texts.sarcasm, (
        Victim("JPEG", "dataset_image/700000000000000000.jpg", files.OF_PICTURES),
        *(a_list_of_texts(name, changed((key, "700000000000009999"), (", 1]", ", 7]")), absent=PYTHON)
          for name, key in (("train.txt", "700000000000000007"), ("valid2.txt", "700000000000000021"),
                            ("test2.txt", "700000000000000063"))),
    ), TEXTS, own_lists=True),
)  # fmt: skip
FOOD101 = (
    Form("food101", "titles", readable(mini_texts.food101), (
        Victim("JPEG", "images/train/apple_pie/apple_pie_0.jpg", files.OF_PICTURES),
        *(a_list_of_texts(f"texts/{part}_titles.csv", changed((key, "sushi_99.jpg"), (",sushi", ",sushy")), At.RAW)
          for part, key in (("train", "sushi_1.jpg"), ("test", "sushi_10.jpg"))),
        *(a_list(name, changed((key, "sushi_sushi_99.jpg"), (",sushi", ",sushy")))
          for name, key in (("dev.csv", "sushi_sushi_4.jpg"), ("test.csv", "sushi_sushi_10.jpg"))),
    ), TEXTS),
    Form("food101", "JSON lines", mini_texts.food101, (
        a_list_of_texts("dev.jsonl", changed(("sushi/sushi_4", "sushi/sushi_99"),
                        ('"sushi"', '"sushy"')), absent=JSON),
    ), (*TEXTS, "source=jsonl")),
)  # fmt: skip


# ---- features ----------------------------------------------------------------------------------------------------
def _with_trailing(path: Path) -> None:
    path.write_bytes(path.read_bytes() + b"xx")


def _of_sentiments(name: str, wanted: str, family: str) -> Harms:
    """Return what may befall a pickle of sentiments.

    Args:
        name: mosi or mosei. wanted: the name of the file. family: mmsa or mult.
    """
    (audio, _), labels = mini_features.WIDTHS[name], "labels" if family == "mult" else "regression_labels"
    protocol = 2 if family == "mult" else 4

    def repickled(change: Callable[[dict], object], own: str = family, aligned: bool = True) -> Harm:
        """Return what writes it with other content."""
        return lambda path: mini_features.write(path, change(mini_features.content(name, own, aligned)), protocol)

    def with_part(part: str, **values: object) -> Harm:
        return repickled(lambda found: mini_features.changed(found, part, **values))

    def with_label(value: float) -> Harm:
        def change(found: dict) -> object:
            own = found["test"][labels].copy()
            own[2] = value
            return mini_features.changed(found, "test", **{labels: own})

        return repickled(change)

    def with_first(value: float, key: str) -> Harm:
        """Return what sets the first real step of a sample, or all of them to 0."""

        def change(found: dict) -> object:
            own = found["train"][key].copy()
            own[2, (own[2] != 0).any(axis=1).argmax() if value else slice(None), 0 if value else slice(None)] = value
            return mini_features.changed(found, "train", **{key: own})

        return repickled(change)

    other = "mult" if family == "mmsa" else "mmsa"
    return of_pickles(wanted, lambda path: mini_features.write(
        path, mini_features.content(name, family) | {"more": Call(path.parent)}, protocol)) | {
        "bytes behind its end": (_with_trailing, "2 bytes behind"),
        "an object of another type": (repickled(lambda found: [1, 2]), "no dict"),
        "a part gone": (repickled(lambda found: {"train": found["train"]}), "'valid'"),
        "a modality gone": (with_part("valid", audio=None), "'audio'"),
        "the labels gone": (with_part("valid", **{labels: None}), labels),
        "the ids gone": (with_part("test", id=None), ""),
        "the file of the form unaligned": (repickled(dict, aligned=False), "form=unaligned"),
        "the file of the other source": (repickled(dict, other), f"text={'bert' if family == 'mult' else 'glove'}"),
        "other features": (with_part("train", audio=np.ones((24, 50, audio + 1))), f"audio_features={audio + 1}"),
        "another number of axes": (with_part("train", audio=np.ones((24, audio))), "not numbers of 3 axes"),
        "fewer labels": (with_part("test", **{labels: np.zeros((1, 1, 1))}), "label"),
        "fewer samples of a modality": (with_part("test", audio=np.ones((11, 50, audio))), "11 samples"),
        "several labels of a sample": (with_part("test", **{labels: np.zeros((12, 6, 1))}), "6 numbers a sample"),
        "a label that is NaN": (with_label(np.nan), "sample 2"),
        "a label out of range": (with_label(9), "not from -3"),
        "a text as an id": (with_part("test", id=["a whole sentence"] * 12), "no id"),
        "an id twice": (repickled(lambda found: mini_features.changed(
            found, "test", id=[found["test"]["id"][0], *found["test"]["id"][:-1]])), ""),
        "a video in two parts": (repickled(lambda found: mini_features.changed(
            found, "test", id=found["train"]["id"][:12])), ""),
        "a value that is NaN": (with_first(np.nan, "audio"), ""),
        "another value": (with_first(0.5, "audio"), ""),
        "a sample without words": (with_first(0, "text"), ""),
    }  # fmt: skip


def _mult(name: str, **values: object) -> Harm:
    """Return what writes a pickle of MulT: the aligned one, or with other values one that is not aligned."""
    found = mini_features.content(name, "mult", aligned=not values)
    return lambda path: mini_features.write(path, mini_features.changed(found, "train", **values), 2)


#: What is taken, and counted or noted.
NOTED = frozenset({
    "the ids gone", "an id twice", "a video in two parts", "a value that is NaN", "another value",
    "a sample without words",
})  # fmt: skip


def _sentiment(dataset: str, name: str) -> tuple[Form, ...]:
    """Return the forms of MOSI and MOSEI, and of what is made of them."""
    kinds, top, (audio, _) = mini_features.CSD[name], name.upper(), mini_features.WIDTHS[name]
    mult = f"{mini_features.MULT[name]}.pkl"
    # of protocol 2, in which arrays are text: changed bytes show
    of_mult = _of_sentiments(name, mult, "mult") | {"some bytes changed": (files.altered, "no whole pickle")}
    of_long: Harms = {
        "the file of the form aligned": (_mult(name), "form=aligned"),
        "more steps than are declared": (_mult(name, audio=np.ones((24, 501, audio))), "steps=501"),
    }

    def sequences(folder: Path) -> tuple[Path, None]:
        return mini_features.sequences(folder / "raw", name), None

    def pickles(family: str, aligned: bool = True) -> Build:
        return lambda folder: (mini_features.sentiment(folder / "raw", name, family, aligned), None)

    return (
        Form(dataset, "MMSA's pickle", pickles("mmsa"), (
            Victim("pickle", f"{top}/Processed/aligned_50.pkl", _of_sentiments(name, "aligned_50.pkl", "mmsa"),
                   taken=NOTED),
        ), ()),
        Form(dataset, "MulT's pickle", pickles("mult"), (
            Victim("pickle", mult, of_mult, taken=NOTED, renewed=of_mult["a value that is NaN"][0]),
        ), ("text=glove",)),
        Form(dataset, "MulT's pickle that is not aligned", pickles("mult", False), (
            Victim("pickle", f"{mini_features.MULT[name]}_noalign.pkl", of_mult | of_long,
                   absent=dict.fromkeys(of_mult, "as of the aligned one"),
                   renewed=_mult(name, audio=np.ones((24, 60, audio)))),
        ), ("text=glove", "form=unaligned")),
        Form(dataset, "computational sequences", sequences, (
            Victim("features", f"CMU_{top}_COVAREP.csd", of_hdf5("COVAREP", top, kinds),
                   says={"missing": f"holds no CMU_{top}_COVAREP.csd"}),
            Victim("labels", f"CMU_{top}_{kinds[0]}.csd", of_hdf5(kinds[0], top, kinds, labels=True),
                   says={"missing": f"holds no CMU_{top}_{kinds[0]}.csd"}),
            Victim("folds", f"cmu_{name}_std_folds.py", OF_FOLDS,
                   says={"missing": f"holds no cmu_{name}_std_folds.py"}, renewed=_with_a_remark),
        ), ("form=csd", "text=glove", "audio_features=74", "visual_features=35")),
    )  # fmt: skip


def edited(kind: str, change: Callable[..., object]) -> Harm:
    """Return what changes a file of sequences."""

    def harm(path: Path) -> None:
        import h5py

        with h5py.File(path, "r+") as file:
            change(h5py, file[f"{kind}/data"])

    return harm


def of_hdf5(kind: str, top: str, kinds: tuple[str, ...], labels: bool = False) -> Harms:
    """Return what may befall a file of computational sequences.

    Args:
        kind: its name in the file. kinds: of all files of the dataset.
    """

    def another(path: Path) -> None:
        path.write_bytes(path.with_name(f"CMU_{top}_{kinds[3]}.csd").read_bytes())

    found: Harms = files.OF_ITEMS | {
        "random bytes": (files.noise, "is no HDF5 file"),
        "name in another case": (files.other_case, "a name in another case"),
        "cut short": (files.cut, "is cut short"),
        "a picture": (files.to_picture, ""),
        "a link into another file": (
            edited(kind, lambda h5py, data: data.__setitem__("more", h5py.ExternalLink("other.h5", "/x"))),
            "leads into another file",
        ),
        "a soft link": (edited(kind, lambda h5py, data: data.__setitem__("more", h5py.SoftLink("/x"))), "soft link"),
        "another file's content": (another, ""),
        "text in place of numbers": (edited(kind, _to_text), ""),
        "another number of axes": (edited(kind, _deeper), ""),
    }
    if labels:
        found["a label that is NaN"] = (edited(kind, _nan), "sentence 0 of train0")
    else:
        found["a value that is NaN"] = (edited(kind, _nan), "")
        found["a video gone"] = (edited(kind, lambda h5py, data: data.__delitem__("test0")), "")
    return found


def _nan(_: object, data) -> None:
    data["train0/features"][0, 0] = np.nan


def _to_text(_: object, data) -> None:
    rows = len(data["train0/features"])
    del data["train0/features"]
    data["train0/features"] = np.array([[b"words"]] * rows)


def _deeper(_: object, data) -> None:
    whole = data["train0/features"][:]
    del data["train0/features"]
    data["train0/features"] = whole[None]


RUNS = "import pathlib; pathlib.Path('it_ran').touch()\nstandard_train_fold = [open('it_ran', 'w').name]\n"
OF_FOLDS: Harms = {
    **files.OF_ITEMS,
    "name in another case": (files.other_case, "a name in another case"),
    "a picture": (files.to_picture, "is no list of folds"),
    "cut short": (listed.cut_in_a_line, "is no list of folds"),
    **{name: found for name, found in listed.DRESSES.items() if name != "semicolons"},
    "code that would run": (lambda path: path.write_text(RUNS), "standard_train_fold"),
    "a video in two folds": (replaced("'valid0'", "'train0'"), "'train0' in the folds"),
    "an id without a file": (replaced("'train0'", "'other0'"), ""),
}


def _with_a_remark(path: Path) -> None:
    path.write_text(path.read_text(encoding="utf-8") + "# a remark\n", encoding="utf-8")


def _iemocap(dataset: str) -> tuple[Form, ...]:
    first = "Ses01F_impro01"

    def write(change: Callable[[list], object]) -> Harm:
        return lambda path: mini_features.write(path, change(list(mini_features.iemocap())), 2)

    def at(place: int, value: object) -> Harm:
        def change(found: list) -> object:
            found[place] = found[place] | value if isinstance(value, dict) else value
            return tuple(found)

        return write(change)

    def hostile(path: Path) -> None:
        at(6, {first: [Call(path.parent)]})(path)

    def nan(found: list) -> object:
        found[4][first][2][:3] = np.nan
        return tuple(found)

    harms = of_pickles("IEMOCAP_features.pkl", hostile) | {
        "bytes behind its end": (_with_trailing, "2 bytes behind"),
        "an object of another type": (write(lambda found: {"train": {}}), "not the nine"),
        "ten values": (write(lambda found: (*found, 1)), "10 values"),
        "a modality gone": (at(4, {first: None}), f"audio of {first}"),
        "other features": (at(5, {first: np.ones((12, 342))}), "visual_features=342"),
        "vectors of several widths": (at(3, {first: [np.ones(100)] * 11 + [np.ones(9)]}), "2 shapes"),
        "fewer labels": (at(2, {first: [1]}), "12, 12, 1"),
        "a label out of range": (at(2, {first: [6] * 12}), "another label than 0 to 5"),
        "a dialogue in both parts": (at(8, {first}), f"{first} in train and in test"),
        "a text as an id": (at(0, {first: ["a whole sentence"] * 12}), ""),
        "a value that is NaN": (write(nan), ""),
    }

    def build(folder: Path) -> tuple[Path, None]:
        return mini_features.write(folder / "raw" / name, mini_features.iemocap(), 2).parent, None

    name, taken = "IEMOCAP_features_raw.pkl", frozenset({"a value that is NaN"})
    return (Form(dataset, "", build, (Victim("pickle", name, harms, taken=taken, renewed=write(nan)),), ()),)


# ---- archives ----------------------------------------------------------------------------------------------------
def packed(build: Build, name: str, folder: str = "") -> Build:
    """Return a builder of an archive, in a folder of its own, with the lists beside it.

    Args:
        folder: in the archive, in which all lies.
    """

    def made(place: Path) -> tuple[Path, Path | None]:
        raw, lists = build(place)
        (place / "archive").mkdir()
        archive = archives.packed(raw, place / "archive" / name)
        if folder:
            archives.below(folder)(archive)
        return archive.parent, lists

    return made


_ZIP = archives.TAKEN | {"bytes in front of it"}
#: Dataset -> its forms as archives: given to --raw, or in a folder that is.
ARCHIVES: dict[str, tuple[Form, ...]] = {
    "ave": (
        Form("ave", "zip", packed(AVE[0].build, "AVE_Dataset.zip", "AVE_Dataset"), (
            Victim("zip", "AVE_Dataset.zip", archives.of_archives("AVE_Dataset/AVE/-video_0000.mp4"),
                   says={"in one more folder": "nor does a folder in it"}, taken=_ZIP),
        ), given="AVE_Dataset.zip"),
        Form("ave", "folder with the zip", packed(AVE[0].build, "AVE_Dataset.zip", "AVE_Dataset"), (
            Victim("zip", "AVE_Dataset.zip", archives.as_a_file()),
        )),
    ),
    "modelnet40": (
        Form("modelnet40", "zip of meshes", packed(MODELNET40[0].build, "ModelNet40.zip"), (
            Victim("zip", "ModelNet40.zip", archives.of_archives("ModelNet40/bowl/train/bowl_0001.off"),
                   taken=_ZIP | {"in one more folder"}),
        ), given="ModelNet40.zip"),
        Form("modelnet40", "tar.gz of shaded images", packed(shaded, "shaded_images.tar.gz"), (
            Victim("tar.gz", "shaded_images.tar.gz", archives.of_archives(
                "modelnet40_images_new_12x/bowl/train/bowl_0001.obj.shaded_v007.png", is_zip=False),
                   says={"bytes behind its end": "is damaged"},
                   taken=archives.TAKEN - {"bytes behind its end"} | {"in one more folder"}),
        ), given="shaded_images.tar.gz"),
    ),
}  # fmt: skip

#: The same for a dataset of pictures and texts, as a tar that is not compressed.
_PICTURE = "data/38.jpg"
TARS: dict[str, tuple[Form, ...]] = {
    "mvsa_single": (
        Form("mvsa_single", "tar", packed(mini_texts.mvsa_single, "MVSA_Single.tar"), (
            Victim("tar", "MVSA_Single.tar", archives.of_archives(_PICTURE, is_zip=False) | {
                "a header that is damaged": (archives.header_changed(_PICTURE), "is damaged"),
                "cut short between two files": (archives.cut_before(_PICTURE), "is cut short"),
                "a file that is damaged": (archives.changed_within(_PICTURE), ""),
            }, says={"nothing in it": "begins with zeros only"},
                taken=archives.TAKEN | {"in one more folder", "a file that is damaged"}),
        ), TEXTS, given="MVSA_Single.tar"),
    ),
}  # fmt: skip

#: Datasets of videos, sounds, pictures and meshes -> their forms; each fault of a file is that of an item.
MEDIA: dict[str, tuple[Form, ...]] = {
    "cremad": CREMAD,
    "ave": AVE,
    "kinetics_sounds": KINETICS_SOUNDS,
    "kinetics_sounds_34": KINETICS_SOUNDS_34,
    "vggsound": VGGSOUND,
    "ucf101": UCF101,
    "hmdb51": HMDB51,
    "modelnet40": MODELNET40,
    "nvgesture": NVGESTURE,
}
#: Every dataset that has to be downloaded -> its forms.
FORMS: dict[str, tuple[Form, ...]] = {name: forms + ARCHIVES.get(name, ()) for name, forms in MEDIA.items()} | {
    "mvsa_single": MVSA_SINGLE + TARS["mvsa_single"],
    "twitter15": TWITTER15,
    "twitter17": TWITTER17,
    "sarcasm": SARCASM,
    "food101": FOOD101,
    **{f"mosi{tail}": _sentiment(f"mosi{tail}", "mosi") for tail in ("", "_2", "_7")},
    **{f"mosei{tail}": _sentiment(f"mosei{tail}", "mosei") for tail in ("", "_2", "_7")},
    **{name: _iemocap(name) for name in ("iemocap", "iemocap_4")},
}
