"""Fits pipelines/heads/spam.json anew and prints the figures of docs/scores.md.

    python tools/heads/spam.py SMS.jsonl EWT.jsonl [fit_head.py's options]

SMS.jsonl: the SMS Spam Collection, one object a line with "label" (ham or spam) and "text". EWT.jsonl: sentences of the English Web Treebank
with "id" and "text", in their order; they are only measured on, each by itself and joined to documents by their ids (all but the last number).
Prose of tools/demo/parts, which the repository holds with its licences, joins the negatives. Needs tools/heads/requirements.txt.
"""

import json
import pathlib
import subprocess
import sys
import tempfile

ROOT = pathlib.Path(__file__).resolve().parents[2]
ATTRIBUTION = (
    "Fitted on the SMS Spam Collection (T. A. Almeida, J. M. G. Hidalgo, UCI Machine Learning Repository, doi:10.24432/C5CC84, CC BY 4.0) and on the "
    "prose of tools/demo/parts; it holds weights only, no text"
)


def main():
    sms, ewt, *more = sys.argv[1:]
    documents = {}
    for line in open(ewt, encoding="utf-8"):
        sentence = json.loads(line)
        documents.setdefault(sentence["id"].rsplit("-", 1)[0], []).append(sentence["text"])
    with tempfile.TemporaryDirectory() as folder:
        joined = pathlib.Path(folder) / "ewt-documents.jsonl"
        joined.write_text("".join(json.dumps({"text": " ".join(texts)}) + "\n" for texts in documents.values()))
        command = [sys.executable, ROOT / "tools/heads/fit_head.py", ROOT / "models/tamis-en", "--data", sms, "--positive", "spam", "--labels", "spam",
                   "--negatives", ROOT / "tools/demo/parts/passages.jsonl", "--clean", ewt, joined, "--attribution", ATTRIBUTION,
                   "--out", ROOT / "pipelines/heads/spam.json", *more]
        subprocess.run(command, check=True)


if __name__ == "__main__":
    main()
