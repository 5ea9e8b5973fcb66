"""Stage ``code``: the code behind each of the other stages, in ``artifacts/code/<stage>.json``.

Every other stage depends on its own list instead of on files: a comment changes no list, a changed
definition the lists of the stages that reach it, see `pipeline.source_code`.
"""

from __future__ import annotations

from pipeline import source_code
from pipeline.files import write_json
from pipeline.stage_run import run_stage


def main() -> None:
    """Write every stage's list."""
    for stage, code in source_code.code_of(*source_code.STAGES).items():
        write_json(source_code.path_of(stage), code)


if __name__ == "__main__":
    run_stage(main)
