"""Solves instances of `bench_solver --export` with HiGHS, to a gap of 1 %.

One binary per server, accelerator and number of replicas, so that capacity curves are exact; one row per server (its load)
and per accelerator type (what there is). Everybody is satisfied or there is no solution.
"""

import json
import sys
import time

import highspy


def capacity(points, replicas):
    """C(n) as the optimizer reads a curve: beyond its last point by the last step or the mean, whichever is less."""
    if replicas <= len(points):
        return points[replicas - 1]
    mean = points[-1] / len(points)
    step = min(points[-1] - points[-2], mean) if len(points) > 1 else mean
    return points[-1] + step * (replicas - len(points))


def solve(path):
    with open(path) as file:
        system = json.load(file)
    models = {model["name"]: model for model in system["models"]}
    solver = highspy.Highs()
    solver.silent()
    solver.setOptionValue("mip_rel_gap", 0.01)
    solver.setOptionValue("time_limit", 60.0)
    solver.setOptionValue("threads", 1)
    columns, taken, cost = 0, {kind: [] for kind in system["capacity"]}, []
    rows = []
    for server in system["servers"]:
        load = server["load"]["arrivalRate"]
        carried = []
        for accelerator in system["accelerators"]:
            profile = models[server["model"]]["profiles"].get(accelerator["name"])
            if profile is None or profile.get("capacity") is None:
                continue
            units = accelerator["multiplicity"] * profile["unitsPerReplica"]
            kind = accelerator.get("kind") or accelerator["name"]
            alternatives = []
            for replicas in range(1, 200):
                value = capacity(profile["capacity"], replicas)
                carried.append((columns, value))
                taken[kind].append((columns, units * replicas))
                alternatives.append((columns, 1.0))
                cost.append(units * accelerator["cost"] * replicas)
                columns += 1
                if value >= load:
                    break
            rows.append((-highspy.kHighsInf, 1.0, alternatives))
        rows.append((load, highspy.kHighsInf, carried))
    for kind, entries in taken.items():
        rows.append((-highspy.kHighsInf, float(system["capacity"][kind]), entries))
    for value in cost:
        solver.addVar(0.0, 1.0)
    for column, value in enumerate(cost):
        solver.changeColCost(column, value)
        solver.changeColIntegrality(column, highspy.HighsVarType.kInteger)
    for low, high, entries in rows:
        solver.addRow(low, high, len(entries), [entry[0] for entry in entries], [entry[1] for entry in entries])
    started = time.monotonic()
    solver.run()
    elapsed = time.monotonic() - started
    info = solver.getInfo()
    status = solver.modelStatusToString(solver.getModelStatus())
    print(f"HiGHS {path.rsplit('/', 1)[-1]}: cost {info.objective_function_value:.1f}, gap {info.mip_gap * 100:.2f} %, "
          f"{elapsed:.2f} s, {columns} columns, {status}")


for instance in sys.argv[1:]:
    solve(instance)
