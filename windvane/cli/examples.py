"""The examples that the help of each command ends with: what they do, and the line that does it."""

from __future__ import annotations

from collections.abc import Mapping

EXAMPLES: Mapping[str, tuple[tuple[str, str], ...]] = {
    "describe": (
        ("Look at a table before anything is learned", "windvane describe customers.csv --target churn"),
        (
            "Compare new rows with it, and write a page",
            "windvane describe customers.csv --test new.csv --out data.html",
        ),
        ("Read a column in another way", "windvane describe customers.csv --type zip=category"),
        ("For a program", "windvane describe customers.csv --target churn --json"),
    ),
    "fit": (
        ("Search for ten minutes", "windvane fit train.csv --target churn --out run"),
        (
            "Another metric, folds that keep customers together, a test set",
            "windvane fit train.csv --target churn --out run --metric log_loss --groups customer --test test.csv",
        ),
        (
            "The same result every time",
            "windvane fit train.csv --target price --out run --n-trials 20 --seed 0 --time 1h",
        ),
        ("Images in a folder for each class", "windvane fit flowers/ --out run --time 5m"),
        ("For a program: one JSON object", "windvane fit train.csv --target churn --out run --json --quiet"),
    ),
    "train": (
        ("Train for 50 epochs", "windvane train flowers/ --out run"),
        ("Another network, within a time", "windvane train flowers/ --out run --model cct_7_3x1 --time 10m"),
        ("What is advised for these images, and why", "windvane train flowers/ --advise"),
        ("Continue after an interruption", "windvane train flowers/ --out run --resume"),
    ),
    "finetune": (
        ("Start from weights that are installed", "windvane finetune flowers/ --weights efficientnet_lite0 --out run"),
        (
            "Weights of timm, within five minutes",
            "windvane finetune flowers/ --weights timm --model resnet18 --out run --time 5m",
        ),
        ("Start from an earlier run", "windvane finetune birds/ --weights run --out birds_run"),
    ),
    "predict": (
        ("Labels or numbers", "windvane predict run test.csv --out predictions.csv"),
        ("A probability for each class", "windvane predict run test.csv --out predictions.parquet --proba"),
        (
            "Intervals that hold nine of ten targets",
            "windvane predict run test.csv --out predictions.csv --interval 0.9",
        ),
        ("CSV for the next program", "windvane predict run test.csv --out -"),
        ("A folder of images", "windvane predict run photos/ --out predictions.csv"),
    ),
    "leaderboard": (
        ("Every trial, the best first", "windvane leaderboard run"),
        ("Scored on rows that the search did not see", "windvane leaderboard run --test test.csv --target churn"),
        ("For a program", "windvane leaderboard run --json"),
    ),
    "evaluate": (
        ("Every usual metric, with intervals", "windvane evaluate run test.csv --target churn"),
        (
            "The score of each segment, and a page",
            "windvane evaluate run test.csv --target churn --by region --out evaluation.html",
        ),
        ("One metric, as JSON", "windvane evaluate run test.csv --target churn --metric f1 --json"),
    ),
    "threshold": (
        ("The current threshold", "windvane threshold run"),
        ("The best one for F1", "windvane threshold run --metric f1"),
        ("As many as possible, of which nine of ten are right", "windvane threshold run --precision 0.9"),
        ("The lowest cost of errors", "windvane threshold run --cost ill:well=20 --cost well:ill=1"),
        ("Predict the most probable class again", "windvane threshold run --reset"),
    ),
    "calibrate": (
        ("By the method that is best in cross-validation", "windvane calibrate run"),
        ("By one method", "windvane calibrate run --method isotonic"),
        ("On rows of your own", "windvane calibrate run --data calibration.csv --target churn"),
    ),
    "importance": (
        ("How much the score needs each column", "windvane importance run test.csv --target churn"),
        ("Correlated columns count as one", "windvane importance run test.csv --target churn --correlated"),
        ("Some columns together", "windvane importance run test.csv --target churn --group place=zip,city"),
        ("Train again without each column", "windvane importance run test.csv --target churn --drop --time 10m"),
    ),
    "explain": (
        ("How much each column moves each prediction", "windvane explain run customers.csv"),
        (
            "Of one class, more precisely, into a file",
            "windvane explain run customers.csv --label yes --time 5m --out contributions.csv",
        ),
        ("For a program", "windvane explain run customers.csv --json --quiet"),
    ),
    "export": (
        ("A folder that predicts without windvane", "windvane export run --out churn_model"),
        ("One ONNX file", "windvane export run --out churn.onnx --format onnx"),
        ("The trials for the dashboard of Optuna", "windvane export run --out study.db --format optuna"),
    ),
    "resume": (
        ("Ten minutes more", "windvane resume run --time 10m"),
        ("Five trials more", "windvane resume run --time 1h --n-trials 5"),
        ("For a program", "windvane resume run --time 10m --json --quiet"),
    ),
    "compact": (
        ("Delete what the ensemble does not need", "windvane compact run"),
        ("Then resume it with new trials", "windvane resume run --time 10m"),
        ("For a program", "windvane compact run --json"),
    ),
    "report": (
        ("A page about the run", "windvane report run"),
        ("With a score on a test set", "windvane report run --out churn.html --test test.csv --target churn"),
        ("Compare the columns of new rows", "windvane report run --test new.csv"),
    ),
    "serve": (
        ("Watch runs while they search, report and predict in a browser", "windvane serve runs/"),
        ("One run, at a port that other programs know", "windvane serve run --port 9000 --quiet"),
        ("For other machines too, with a token", "windvane serve run --host 0.0.0.0 --token correct-horse"),
    ),
    "inspect": (
        ("One network on a folder of images", "windvane inspect resnet18=weights.safetensors photos/"),
        ("Two networks", "windvane inspect run_a run_b photos/ --out compare.html"),
        ("Some layers, with intervals", "windvane inspect run photos/ --layers residual --repeats 5"),
    ),
    "portfolio collect": (
        ("Overnight, on a folder of tables", "windvane portfolio collect tables/ --out cells.jsonl"),
        (
            "One target column in all of them",
            "windvane portfolio collect tables/ --out cells.jsonl --target y --time 30m",
        ),
        ("With fewer processes", "windvane portfolio collect tables/ --out cells.jsonl --jobs 2 --quiet"),
    ),
    "portfolio build": (
        ("Learn a portfolio", "windvane portfolio build cells.jsonl --out own.json"),
        ("Use it", "windvane fit train.csv --target churn --out run --portfolio own.json"),
        ("For a program", "windvane portfolio build cells.jsonl --out own.json --json"),
    ),
}


def examples_text(command: str) -> str:
    """Return the examples of a command as the last lines of its help; click does not fill paragraphs after a \\b."""
    paragraphs = [
        "\n".join([f"  # {words}", *(f"  {line}" for line in _cut(call))]) for words, call in EXAMPLES[command]
    ]
    return "\b\nExamples:\n" + "\n\n\b\n".join(paragraphs)


def _cut(call: str, width: int = 74) -> list[str]:
    """Break a long line before an option, as one does in a shell."""
    lines, rest = [], call
    while len(rest) > width:
        place = rest.rindex(" --", 0, width - 2)
        lines.append(f"{rest[:place]} \\")
        rest = f"    {rest[place + 1 :]}"
    return [*lines, rest]
