#!/usr/bin/python3
"""run - proves promise 1: what was acknowledged is delivered or comes back, whatever is killed, fails or loses its power.

    run.py [--sample N] [--seed N] [--only power,kills,errors,pairs,again,rig] [--jobs N]
    run.py --fault "queued fdatasync file#21 ENOSPC and remote poll#3 kill"

Without --sample: every system call of every program is killed once, every error of the table is made once, and 1,500 power losses. With it:
about N states of all kinds. The seed is printed; the same seed plans the same states. What failed is kept, with logs, in
build/crash/failed.json. --fault makes one fault, as a failure's line names it, and shows the host's log.
"""
import argparse
import collections
import json
import os
import random
import re
import shutil
import sys
import time

import cell
import matrix
import power

FULL_POWER, FULL_AGAIN, FULL_PAIRS, RECORDINGS, MESSAGES = 1500, 300, 300, 5, 36
RECOVERIES = 20      # states whose way back is recorded and cut off again
RIG_STATES = 16
SHARES = {"power": 0.35, "recovery": 0.15, "kills": 0.2, "errors": 0.15, "pairs": 0.05, "again": 0.1}
PHASES = ["power", "kills", "errors", "pairs", "again", "rig"]
FAILED = f"{cell.TOOLS}/failed.json"
SECONDS = 120     # of one state, at most


class Tally:
    def __init__(self, keeps=True):
        self.keeps = keeps
        self.states, self.idle, self.kinds, self.failed, self.errors, self.surprises = 0, 0, collections.Counter(), [], 0, []

    def take(self, phase, run, label):
        """A judged state; its violations are shown and kept."""
        self.states += 1
        if run.error:
            self.errors += 1
            print(f"{phase} {label}: could not be judged: {run.error.strip().splitlines()[-1]}")
            self.keep(phase, run, [run.error])
            return
        found = run.result["violations"]
        if run.result.get("acted") == 0:
            self.idle += 1
        for kind in {kind for kind, _ in found}:
            self.kinds[kind] += 1
        for kind, text in found:
            print(f"{phase} {label}: {kind}: {text[:400]}")
        if found:
            self.keep(phase, run, found)

    def keep(self, phase, run, found):
        spec = {k: v for k, v in run.argument.items() if k in ("faults", "state", "recording", "seed", "count")}
        if not self.keeps:
            return
        self.failed.append({"phase": phase, "spec": spec, "found": found, "log": (run.result or {}).get("log", "")})
        with open(FAILED, "w") as f:
            json.dump(self.failed, f, indent=1)
        sys.stdout.flush()


class Plan:
    def __init__(self, arguments):
        self.arguments, self.tally = arguments, Tally()
        self.root = cell.build("crash")
        self.counts, self.census = {}, {}

    def number(self, phase, full):
        sample = self.arguments.sample
        return full if sample is None else max(1, round(sample * SHARES[phase]))

    # ---- the clean runs
    def count_calls(self):
        def done(run):
            if run.error or run.result["violations"]:
                self.tally.take("clean", run, run.argument["target"])
                return
            self.counts[run.argument["target"]] = run.result["counts"]
            self.census = matrix.merge_census(self.census, run.result["census"])
        specs = [{"root": self.root, "target": target} for target in matrix.TARGETS]
        cell.run_all(matrix.run_clean, specs, self.arguments.jobs, SECONDS, done)
        print(f"system calls: {', '.join(f'{t} {sum(c.values())}' for t, c in sorted(self.counts.items()))}")

    # ---- kills and errors
    def faults(self, phase, plans):
        rng = random.Random(f"{self.arguments.seed} {phase}")
        rng.shuffle(plans)
        plans = plans[:self.number(phase, len(plans))] if phase in ("kills", "errors") else plans
        specs = [{"root": self.root, "faults": plan, "census": self.census} for plan in plans]
        label = lambda run: " and ".join(f"{target} {call}#{when} {act}" for target, call, when, act in run.argument["faults"])
        cell.run_all(matrix.run_faults, specs, self.arguments.jobs, SECONDS, Show(self.tally, phase, label, len(specs)))

    def kills(self):
        self.faults("kills", matrix.plan_kills(self.counts))

    def errors(self):
        self.faults("errors", matrix.plan_errors(self.counts))

    def pairs(self):
        rng = random.Random(f"{self.arguments.seed} pairs")
        self.faults("pairs", matrix.plan_pairs(self.counts, self.number("pairs", FULL_PAIRS), rng))

    def again(self):
        rng = random.Random(f"{self.arguments.seed} again")
        self.faults("again", matrix.plan_again(self.counts, self.number("again", FULL_AGAIN), rng))

    # ---- power
    def power(self):
        count = self.number("power", FULL_POWER)
        recordings = 1 if self.arguments.sample else RECORDINGS
        for n in range(recordings):
            self.lose_power(self.root, f"{self.arguments.seed} {n}", count // recordings, self.tally)
        if not self.arguments.sample:
            root = cell.build("crash-full", segment=64 << 20)
            self.lose_power(root, f"{self.arguments.seed} full", count // 10, self.tally, sizes=power.FULL_SIZES)
            shutil.rmtree(root, ignore_errors=True)

    def lose_power(self, root, seed, count, tally, patient=True, sizes=None):
        """`count` states of one recording. Impatient: only until something is found."""
        at, sizes = f"{cell.SHM}/tappal-{os.path.basename(root)}", sizes or power.SIZES
        shutil.rmtree(at, ignore_errors=True)
        os.makedirs(at)
        record = cell.Run(power.run_recording, {"root": root, "at": at, "seed": seed, "count": MESSAGES, "sizes": sizes}, SECONDS)
        while not record.poll():
            time.sleep(0.05)
        if record.error or (record.result["violations"] and patient):
            tally.take("recording", record, seed)
        if record.error:
            return
        events = power.read_events(f"{at}/events")
        states = power.plan_states(events, count, random.Random(seed))
        if not patient:
            random.Random(seed).shuffle(states)
        bases = [f"{at}/disk{i}.base" for i in range(2)]
        common = {"root": root, "seed": seed, "count": MESSAGES}
        label = lambda run: f"event {run.argument['state'][0]} {run.argument['state'][1]}"
        for part in [sorted(states)] if patient else [[s] for s in states]:
            self.run_states(at, power.Builder(bases, events), part, common, sizes, Show(tally, "power", label, len(states)))
            if not patient and tally.kinds["lost"]:
                break
        if patient and root == self.root:
            self.recoveries(at, bases, events, common, sizes, tally)
        shutil.rmtree(at)

    def run_states(self, at, builder, states, common, sizes, show):
        waiting, running, n = list(states), [], 0
        while waiting or running:
            while waiting and len(running) < self.arguments.jobs:
                state, n = waiting.pop(0), n + 1
                images = [f"{at}/state{n}-{i}" for i in range(2)]
                marks = builder.save(state, images, sizes)
                running.append(cell.Run(power.run_state, {**common, "images": images, "marks": marks, "state": state}, SECONDS))
            time.sleep(0.01)
            for run in [r for r in running if r.poll()]:
                running.remove(run)
                for image in run.argument["images"]:
                    os.unlink(image)
                show(run)

    def recoveries(self, at, bases, events, common, sizes, tally):
        """The power goes again while the host finds its way back."""
        full = -(-FULL_AGAIN // RECORDINGS)
        count = self.number("recovery", full)
        rng = random.Random(f"{common['seed']} recovery")
        firsts = sorted(power.plan_states(events, max(1, min(RECOVERIES // RECORDINGS, count // 2)), rng))
        builder = power.Builder(bases, events)
        for first in firsts:
            images = [f"{at}/again{i}" for i in range(2)]
            marks = builder.save(first, images, sizes)
            for image in images:
                shutil.copyfile(image, f"{image}.base")
            run = cell.Run(power.run_state, {**common, "images": images, "marks": marks, "state": first, "record": f"{at}/again"}, SECONDS)
            while not run.poll():
                time.sleep(0.02)
            tally.take("power", run, f"event {first[0]} {first[1]}, recorded")
            if run.error:
                continue
            later = power.read_events(f"{at}/again")
            states = sorted(power.plan_states(later, -(-count // len(firsts)), rng))
            label = lambda run: f"event {first[0]} {first[1]}, then event {run.argument['state'][0]} {run.argument['state'][1]}"
            self.run_states(at, power.Builder([f"{image}.base" for image in images], later, marks), states, {**common, "crashes": 2}, sizes,
                            Show(tally, "recovery", label, len(states)))

    # ---- does the rig see what it is there for?
    def rig(self):
        for mutant, call in cell.MUTANTS.items():
            tally = Tally(keeps=False)
            root = cell.build(f"crash-{mutant}", mutant)
            with Silence():
                self.lose_power(root, f"{self.arguments.seed} {mutant}", RIG_STATES, tally, patient=False)
            shutil.rmtree(root, ignore_errors=True)
            caught = tally.kinds["lost"] > 0
            print(f"rig: a build that spares {call} of {'the log' if mutant == 'early' else 'directories'} is {'caught' if caught else 'NOT CAUGHT'}"
                  f" after {tally.states} states")
            if not caught:
                self.tally.surprises.append(mutant)

    def run(self):
        if {"kills", "errors", "pairs", "again"} & set(self.arguments.only):
            self.count_calls()
        for phase in PHASES:
            if phase in self.arguments.only:
                started = time.monotonic()
                getattr(self, phase)()
                print(f"{phase}: {time.monotonic() - started:.0f} s", flush=True)


class Progress:
    def __init__(self, phase, total):
        self.phase, self.total, self.at, self.shown = phase, total, 0, time.monotonic()

    def step(self, tally):
        self.at += 1
        if time.monotonic() - self.shown > 60:
            self.shown = time.monotonic()
            print(f"{self.phase}: {self.at} of {self.total}, {len(tally.failed)} failed", flush=True)


class Show:
    """Takes a run into the tally, under its label."""

    def __init__(self, tally, phase, label, total):
        self.tally, self.phase, self.label, self.progress = tally, phase, label, Progress(phase, total)

    def __call__(self, run):
        self.tally.take(self.phase, run, self.label(run))
        self.progress.step(self.tally)


class Silence:
    """What a mutant loses is no news."""

    def __enter__(self):
        self.stdout, sys.stdout = sys.stdout, open(os.devnull, "w")

    def __exit__(self, *_):
        sys.stdout.close()
        sys.stdout = self.stdout


def one_fault(plan, text):
    """The fault that a failure's line names."""
    faults = [re.fullmatch(r"([a-z-]+) (\w+(?: \w+)?)#(\d+) (\w+)", part.strip()).groups() for part in text.split(" and ")]
    spec = {"root": plan.root, "faults": [(target, call, int(when), act) for target, call, when, act in faults], "show": True}

    def done(run):
        plan.tally.take("fault", run, text)
        print((run.result or {}).get("log", ""))
        print(f"faults that happened: {(run.result or {}).get('acted')}; what clients were told: {(run.result or {}).get('states')}")
    cell.run_all(matrix.run_faults, [spec], 1, SECONDS, done)


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=int, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", type=lambda text: text.split(","), default=PHASES)
    parser.add_argument("--jobs", type=int, default=4 * (os.cpu_count() or 2))
    parser.add_argument("--fault")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("crash: needs root: it mounts, makes accounts and traces set-uid programs")
    held = cell.lock()
    print(f"crash: SEED={arguments.seed}", flush=True)
    cell.build_tools()
    if os.path.exists(FAILED) and not arguments.fault:
        os.unlink(FAILED)
    plan = Plan(arguments)
    if arguments.fault:
        one_fault(plan, arguments.fault)
    else:
        plan.run()
    t = plan.tally
    shutil.rmtree(plan.root, ignore_errors=True)
    os.close(held)
    bad = len(t.failed) + len(t.surprises)
    print(f"{t.states - len(t.failed) + ('rig' in arguments.only and not arguments.fault) * (len(cell.MUTANTS) - len(t.surprises))} passed, {bad} failed")
    if t.errors or t.surprises or t.idle:
        print(f"{t.idle} faults were never reached, {t.errors} states could not be judged, {len(t.surprises)} broken builds were not caught")
    print(f"crash: {t.states} states, {t.kinds['lost']} lost, {t.kinds['ghost']} ghosts, {t.kinds['duplicate']} duplicates over bound, {t.kinds['leak']} leaks")
    sys.exit(1 if bad else 0)


if __name__ == "__main__":
    main()
