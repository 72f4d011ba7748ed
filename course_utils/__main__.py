"""The one command-line door: python -m course_utils COMMAND."""

import argparse
import sys
from pathlib import Path

from course_utils.errors import CourseError


def doctor(args: argparse.Namespace) -> int:
    from course_utils.doctor import diagnose

    facts, problems = diagnose()
    print("\n".join(facts))
    for what, remedy in problems:
        print(f"PROBLEM    {what}\n           to do: {remedy}")
    print("All is well." if not problems else f"{len(problems)} to mend.")
    return 1 if problems else 0


def build(args: argparse.Namespace) -> int:
    from course_utils.notebooks import build

    changed = build(check=args.check)
    for path in changed:
        print(("out of step: " if args.check else "built: ") + path.name)
    if args.check and changed:
        print("run `python -m course_utils build` and commit the result")
        return 1
    return 0


def run(args: argparse.Namespace) -> int:
    from course_utils import runner
    from course_utils.notebooks import find_lesson, lessons
    from course_utils.site import build_site

    chosen = [find_lesson(wanted) for wanted in args.lesson] or lessons()
    results = runner.run(chosen, args.profile, args.build)
    if args.record:
        runner.record_timings(results, args.profile)
    print("\n" + runner.summary(results))
    print(f"\nPages: {build_site(args.build, args.profile)}")
    return 0 if all(result.status == "passed" for result in results) else 1


def site(args: argparse.Namespace) -> int:
    from course_utils.site import build_site

    first = build_site(args.build, args.profile)
    print(f"Pages: {first}")
    if args.pdf:
        from course_utils.site.pdf import print_pdf

        print(f"To print: {print_pdf(first.parent)}")
    return 0


def bench(args: argparse.Namespace) -> int:
    from course_utils.bench import bench

    for table in bench(args.name, args.build / "bench", args.repeats, args.record):
        print(f"\n{table.read_text(encoding='utf-8')}\n{table}")
    return 0


def pack(args: argparse.Namespace) -> int:
    from course_utils.pack import pack

    print(f"Packing the course and its wheels into {args.folder}; some gigabytes, some minutes …")
    print(f"{pack(args.folder) / 1e9:.1f} GB. To install from it: sh {args.folder}/install.sh")
    return 0


def readme(args: argparse.Namespace) -> int:
    from course_utils.readme import update_readme

    update_readme(args.build / "run.json")
    return 0


def progress(args: argparse.Namespace) -> int:
    from course_utils import journal, learner

    if args.restore is not None:
        print(f"{journal.restore(args.restore)} events were new and are kept now.\n")
    print(learner.as_text(learner.standing()))
    print(f"\nKept in {journal.journal_file()}, and nowhere else.")
    return 0


def manifest(args: argparse.Namespace) -> int:
    from course_utils.assets import write_manifest

    write_manifest()
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command; returns the exit status."""
    parser = argparse.ArgumentParser(prog="python -m course_utils", description=__doc__)
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    command = commands.add_parser("doctor", help="look at this machine and say what to do")
    command.set_defaults(action=doctor)

    command = commands.add_parser("build", help="build the notebooks from notebooks/src")
    command.add_argument("--check", action="store_true", help="only say what is out of step")
    command.set_defaults(action=build)

    command = commands.add_parser("run", help="execute lessons and check their claims")
    command.add_argument("lesson", nargs="*", help="numbers such as 11; none means all")
    command.add_argument("--profile", default="quick", help="quick (default) or full")
    command.add_argument("--build", type=Path, default=Path("build"), help="output folder")
    command.add_argument("--record", action="store_true", help="keep the times in timings.json")
    command.set_defaults(action=run)

    command = commands.add_parser("site", help="build the website from what has been executed")
    command.add_argument("--profile", default="quick", help="quick (default) or full")
    command.add_argument("--build", type=Path, default=Path("build"), help="folder of the runs")
    command.add_argument("--pdf", action="store_true", help="and print the lessons, by a browser")
    command.set_defaults(action=site)

    command = commands.add_parser("bench", help="measurements that take minutes")
    command.add_argument("name", nargs="*", help="benchmarks such as baselines; none means all")
    command.add_argument("--build", type=Path, default=Path("build"), help="output folder")
    command.add_argument("--repeats", type=int, default=5, help="interleaved rounds")
    command.add_argument("--record", action="store_true", help="keep the tables in the package")
    command.set_defaults(action=bench)

    command = commands.add_parser("progress", help="what you have predicted, answered and solved")
    command.add_argument("--restore", type=Path, help="a downloaded journal.jsonl to put back")
    command.set_defaults(action=progress)

    command = commands.add_parser("pack", help="a folder that installs the course offline")
    command.add_argument("folder", type=Path, help="a new folder, such as one on a USB stick")
    command.set_defaults(action=pack)

    command = commands.add_parser("readme", help="put the results of a run into README.md")
    command.add_argument("--build", type=Path, default=Path("build"), help="folder of run.json")
    command.set_defaults(action=readme)

    command = commands.add_parser("manifest", help="write data/SHA256SUMS anew")
    command.set_defaults(action=manifest)

    args = parser.parse_args(arguments)
    try:
        return args.action(args)
    except CourseError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
