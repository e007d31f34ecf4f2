"""How long a DAG file with 500 tasks takes to parse: ours beside BashOperator and the incumbent.

    python benchmarks/parse_dag.py [--tasks 500] [--repeat 7]

Each file is executed in a process that has imported what it imports, as the dag-processor's forked parsers have.
CPU time of the process, best of several.
"""

from __future__ import annotations

import argparse
import subprocess
import sys

PROGRAM = """
import sys, time
from datetime import datetime
from airflow.sdk import DAG
from {module} import {operator} as Operator
{subclass}
tasks, repeat = {tasks}, {repeat}

def parse():
    with DAG("bench", schedule=None, start_date=datetime(2026, 1, 1)):
        for number in range(tasks):
            Operator(task_id=f"task_{{number}}", {arguments})

best = None
for _ in range(repeat):
    before = time.process_time()
    parse()
    spent = time.process_time() - before
    best = spent if best is None else min(best, spent)
print(best)
"""
POD = 'image="busybox:1.36", cmds=["sh", "-c"], arguments=["echo {{ ds }}"], env_vars={"A": "1"}, labels={"a": "b"}'
CASES = {
    "BashOperator": ("airflow.providers.standard.operators.bash", "BashOperator", 'bash_command="echo {{ ds }}"'),
    "kpo_async": ("kpo_async.operators.pod", "KubernetesPodOperator", POD),
    "kpo_async, with a property": ("kpo_async.operators.pod", "KubernetesPodOperator", POD),
    "incumbent": ("airflow.providers.cncf.kubernetes.operators.pod", "KubernetesPodOperator", POD),
}

SUBCLASS = """
class Operator(Operator):
    image = property(lambda self: self._image, lambda self, value: setattr(self, "_image", value))
"""


def measure(case: str, tasks: int, repeat: int) -> float:
    """Seconds of CPU for one parse."""
    module, operator, arguments = CASES[case]
    subclass = SUBCLASS if "property" in case else ""
    program = PROGRAM.format(
        module=module, operator=operator, arguments=arguments, tasks=tasks, repeat=repeat, subclass=subclass
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return float(done.stdout.splitlines()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tasks", type=int, default=500)
    parser.add_argument("--repeat", type=int, default=7)
    arguments = parser.parse_args()
    base = None
    print("| | ms a file | us a task | over BashOperator, us a task |\n|---|---|---|---|")
    for case in CASES:
        spent = measure(case, arguments.tasks, arguments.repeat)
        base = spent if base is None else base
        each, over = spent / arguments.tasks * 1e6, (spent - base) / arguments.tasks * 1e6
        print(f"| {case} | {spent * 1e3:.0f} | {each:.0f} | {over:+.0f} |")


if __name__ == "__main__":
    main()
