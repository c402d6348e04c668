"""Labels as tasks of Label Studio: annotations are the answers, predictions the model's guesses."""

import json
import urllib.parse
from pathlib import Path
from typing import Any
from xml.sax.saxutils import quoteattr

from emoc_tf.records.labels import LabelledImage, RunLabels
from emoc_tf.records.placing import Pictures, different, new_folder

# What `<Choices>` and `<Image>` are called in the labelling configuration.
_CHOICES, _IMAGE = "label", "image"


def write_labelstudio(labels: RunLabels, pictures: Pictures, output: Path, way: str) -> None:
    """Writes `tasks.json` to import, and the labelling configuration `label_config.xml`.

    Images are named as Label Studio serves local files, `/data/local-files/?d=FOLDER/PATH`, where
    FOLDER is the folder of images: `LOCAL_FILES_DOCUMENT_ROOT` has to be the folder that it lies
    in. Images of an array are written as PNG into `images/`, and FOLDER is the output's folder.

    Raises:
        ValueError: The images come from no files and are not given.
    """
    names = None
    if pictures.folder is None or any(pictures.file(each) is None for each in labels.labelled):
        pictures.check(labels.labelled)
        names = different(
            map(pictures.name, labels.labelled), [e.index for e in labels.labelled], str.casefold
        )
    with new_folder(output) as folder:
        tasks, classes = [], set(labels.class_names)
        for i, each in enumerate(labels.labelled):
            if names is None:
                url = _url(f"{pictures.folder.name}/{each.path}")
            else:
                pictures.place(each, folder / "images" / names[i], way)
                url = _url(f"{output.name}/images/{names[i]}")
            tasks.append(_task(each, url, labels.config["agent"], classes))
        text = json.dumps(tasks, ensure_ascii=False, indent=2)
        (folder / "tasks.json").write_text(text + "\n", encoding="utf-8")
        config = _config(labels.class_names)
        (folder / "label_config.xml").write_text(config, encoding="utf-8")


def _url(path: str) -> str:
    return f"/data/local-files/?d={urllib.parse.quote(path)}"


def _task(image: LabelledImage, url: str, agent: str, classes: set[str]) -> dict[str, Any]:
    known = {
        "path": image.path, "sha256": image.sha256, "index": image.index, "kind": image.kind,
        "step": image.step, "time": image.time,
    }  # fmt: skip
    told = {name: value for name, value in known.items() if value is not None}
    task = {
        "data": {_IMAGE: url, **told},
        "annotations": [{"result": [_result(image.label)]}],
    }
    if image.guess is not None and image.guess in classes:
        version = f"emoc_tf {agent} step {image.step}"
        task["predictions"] = [{"model_version": version, "result": [_result(image.guess)]}]
    return task


def _result(name: str) -> dict[str, Any]:
    return {
        "from_name": _CHOICES, "to_name": _IMAGE, "type": "choices", "value": {"choices": [name]}
    }  # fmt: skip


def _config(class_names: list[str]) -> str:
    choices = "".join(f"    <Choice value={quoteattr(name)}/>\n" for name in class_names)
    return (
        f'<View>\n  <Image name="{_IMAGE}" value="${_IMAGE}"/>\n'
        f'  <Choices name="{_CHOICES}" toName="{_IMAGE}" choice="single">\n{choices}'
        f"  </Choices>\n</View>\n"
    )
