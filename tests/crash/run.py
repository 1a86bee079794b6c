#!/usr/bin/python3
"""run - proves promise 1: what was acknowledged is delivered or comes back, whatever is killed, fails or loses its power.

    run.py [--sample N] [--seed N] [--only power,kills,errors,pairs,again,rig] [--jobs N]
    run.py --fault "queued fdatasync file#21 ENOSPC and remote poll#3 kill"
    run.py --replay "build/crash/kept/1 1234 torn 987654321"

Without --sample: every system call of every program is killed once, every error of the table is made once, and 1,500 power losses. With it:
about N states of all kinds. The seed is printed; the same seed plans the same states; `--seed tree` is one that any change of the sources
changes. What failed is kept, with logs, in
build/crash/failed.json, and the disks' records in build/crash/kept. --fault makes one fault, --replay one loss of power, as a failure's lines
name them, and shows the host's log.
"""
import argparse
import collections
import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import tempfile
import time

import cell
import matrix
import power
import scenario
import selftest

FULL_POWER, FULL_AGAIN, FULL_PAIRS, RECORDINGS, MESSAGES = 1500, 300, 300, 5, 36
RECOVERIES = 20      # states whose way back is recorded and cut off again
RIG_STATES = 16
SHARES = {"power": 0.35, "recovery": 0.15, "kills": 0.2, "errors": 0.15, "pairs": 0.05, "again": 0.1}
PHASES = ["power", "kills", "errors", "pairs", "again", "rig"]
FAULTS = {"kills", "errors", "pairs", "again"}
FAILED, KEPT = f"{cell.TOOLS}/failed.json", f"{cell.TOOLS}/kept"
SECONDS = 120     # of one state, at most


class Tally:
    def __init__(self, keeps=True):
        self.keeps = keeps
        self.states, self.idle, self.errors, self.tests, self.acknowledged = 0, 0, 0, 0, 0
        self.kinds, self.failed, self.surprises, self.skipped = collections.Counter(), [], [], []

    def take(self, phase, run, label, recording=None):
        """A judged state; its violations are shown and kept. One in which nothing happened is none."""
        idle = not run.error and run.result.get("acted") == 0 and not run.result["violations"]
        self.idle += idle
        self.states += not idle
        if run.error:
            self.errors += 1
            print(f"{phase} {label}: could not be judged: {run.error.strip().splitlines()[-1]}")
            self.keep(phase, run, [run.error], recording)
            return
        found = run.result["violations"]
        self.acknowledged += 0 if idle else run.result["acknowledged"]
        for kind in {kind for kind, _ in found}:
            self.kinds[kind] += 1
        for kind, text in found:
            print(f"{phase} {label}: {kind}: {text[:400]}")
        if found:
            self.keep(phase, run, found, recording)

    def test(self, right, text, quiet=False):
        """One of the rig's own."""
        self.tests += 1
        if not right:
            self.surprises.append(text)
        if not (right and quiet):
            print(f"rig: {'' if right else 'NOT TRUE: '}{text}", flush=True)

    def keep(self, phase, run, found, recording=None):
        if not self.keeps:
            return
        spec = {k: v for k, v in run.argument.items() if k in ("faults", "state")}
        if recording:
            spec["recording"] = recording.keep(KEPT)
            print(f"  again: run.py --replay '{spec['recording']} {' '.join(map(str, spec['state']))}'")
        self.failed.append({"phase": phase, "spec": spec, "found": found, "log": (run.result or {}).get("log", "")})
        with open(FAILED, "w") as f:
            json.dump(self.failed, f, indent=1)
        sys.stdout.flush()


class Plan:
    def __init__(self, arguments):
        self.arguments, self.tally = arguments, Tally()
        self.root = cell.build("crash")
        self.counts, self.census, self.found = {}, {}, {}

    # ---- what a machine may lack
    def obstacle(self, kind):
        if kind == "power":
            with tempfile.TemporaryDirectory(dir=cell.place_of_images(), prefix="tappal-") as at:
                return cell.obstacle(cell.try_recording, {"root": self.root, "at": at})
        return cell.obstacle(cell.try_tracing, None)

    def blocked(self, phase):
        """None, or why it cannot be done on this machine."""
        kind = "power" if phase == "power" else "faults"
        if phase == "rig":
            return None
        if kind not in self.found:
            why = self.obstacle(kind)
            needs = "loop devices and /dev/fuse" if kind == "power" else "namespaces and ptrace"
            self.found[kind] = why and f"it needs {needs}: {why}"
        return self.found[kind]

    def skip(self, what, why):
        print(f"SKIP {what}: {why}", flush=True)
        self.tally.skipped.append(what)

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
        scenario.small_messages()   # their bodies are made once, here
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
        show = Show(self.tally, phase, label, len(specs))

        def done(run):
            """A fault that was not reached gets a second try where it can be."""
            quiet = run.result and not run.result["violations"] and not run.argument.get("second")
            faults = matrix.nearer(run.argument["faults"], run.result["seen"], rng) if quiet else None
            if faults:
                return {**run.argument, "faults": faults, "second": True}
            show(run)
        cell.run_all(matrix.run_faults, specs, self.arguments.jobs, SECONDS, done)

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
            self.lose_power(self.root, f"{self.arguments.seed} {n}", count // recordings, power.SIZES)
        if not self.arguments.sample:
            root = cell.build("crash-full", segment=64 << 20)
            self.lose_power(root, f"{self.arguments.seed} full", count // 10, power.FULL_SIZES)
            shutil.rmtree(root, ignore_errors=True)

    def record(self, root, seed, sizes, tally, patient=True):
        """A run of the scenario with its disks recorded; None when that went wrong."""
        recording = power.Recording(f"{cell.place_of_images()}/tappal{root.replace('/', '-')}", root, seed, MESSAGES, sizes)
        shutil.rmtree(recording.at, ignore_errors=True)
        os.makedirs(recording.at)
        power.messages_of(seed, MESSAGES)   # their bodies are made once, here
        run = cell.Run(power.run_recording, {"root": root, "at": recording.at, "seed": seed, "count": MESSAGES, "sizes": sizes}, SECONDS)
        while not run.poll():
            time.sleep(0.05)
        if run.error or (run.result["violations"] and patient):
            tally.take("recording", run, seed)
        if run.error:
            return None
        recording.read()
        return recording

    def lose_power(self, root, seed, count, sizes):
        recording = self.record(root, seed, sizes, self.tally)
        if recording is None:
            return
        states = power.plan_states(recording.events, count, random.Random(seed))
        label = lambda run: f"event {run.argument['state'][0]} {run.argument['state'][1]}"
        self.run_states(recording, states, Show(self.tally, "power", label, len(states), recording))
        if root == self.root:
            self.recoveries(recording)
        shutil.rmtree(recording.at)

    def run_states(self, recording, states, show, enough=lambda: False):
        """States in the order of their moments, several at a time, until there are enough."""
        builder, waiting, running, n = recording.builder(), list(states), [], 0
        while running or (waiting and not enough()):
            while waiting and len(running) < self.arguments.jobs and not enough():
                n += 1
                images = [f"{recording.at}/state{n}-{i}" for i in range(2)]
                running.append(cell.Run(power.run_state, recording.spec(builder, waiting.pop(0), images), SECONDS))
            time.sleep(0.01)
            for run in [r for r in running if r.poll()]:
                running.remove(run)
                for image in run.argument["images"]:
                    os.unlink(image)
                show(run)

    def recoveries(self, recording):
        """The power goes again while the host finds its way back."""
        full = -(-FULL_AGAIN // RECORDINGS)
        count = self.number("recovery", full)
        rng = random.Random(f"{recording.seed} recovery")
        firsts = power.plan_states(recording.events, max(1, min(RECOVERIES // RECORDINGS, count // 4)), rng)
        builder, specs = recording.builder(), []
        for n, first in enumerate(firsts):
            again = power.Recording(f"{recording.at}/again{n}", recording.root, recording.seed, MESSAGES, recording.sizes, crashes=2)
            os.makedirs(again.at)
            spec = recording.spec(builder, first, again.images)
            again.marks = spec["marks"]
            for image in again.images:
                subprocess.run(["cp", "--sparse=always", image, f"{image}.base"], check=True)
            specs.append({**spec, "record": f"{again.at}/events", "again": again, "rng": random.Random(rng.getrandbits(32))})
        label = lambda run: f"event {run.argument['state'][0]} {run.argument['state'][1]}, recorded"
        show, judged = Show(self.tally, "recovery", label, len(specs), recording), []
        cell.run_all(power.run_state, specs, self.arguments.jobs, SECONDS, lambda run: (show(run), judged.append(run))[0])
        for run in judged:
            if not run.error:
                self.recovery(run.argument["again"], run.argument["state"], -(-count // len(firsts)), run.argument["rng"])

    def recovery(self, again, first, count, rng):
        states = power.plan_states(again.read(), count, rng)
        label = lambda run: f"event {first[0]} {first[1]}, then event {run.argument['state'][0]} {run.argument['state'][1]}"
        self.run_states(again, states, Show(self.tally, "recovery", label, len(states), again))
        shutil.rmtree(again.at)

    # ---- does the rig see what it is there for?
    def rig(self):
        selftest.run(self.tally)
        for mutant, (_, fault) in cell.MUTANTS.items():
            if self.blocked("power"):
                self.skip(f"rig: {fault}", self.blocked("power"))
                continue
            tally = Tally(keeps=False)
            root = cell.build(f"crash-{mutant}", mutant)
            with Silence():
                recording = self.record(root, f"{self.arguments.seed} {mutant}", power.SIZES, tally, patient=False)
                if recording:
                    rng = random.Random(recording.seed)
                    show = Show(tally, "rig", lambda run: "", RIG_STATES, recording)
                    self.run_states(recording, power.plan_states(recording.events, RIG_STATES, rng), show, lambda: tally.kinds["lost"] > 0)
                    shutil.rmtree(recording.at)
            shutil.rmtree(root, ignore_errors=True)
            self.tally.test(tally.kinds["lost"] > 0, f"a build that {fault} is caught (after {tally.states} states)")

    def run(self):
        for phase in [p for p in PHASES if p in self.arguments.only]:
            started = time.monotonic()
            if self.blocked(phase):
                self.skip(phase, self.blocked(phase))
                continue
            if phase in FAULTS and not self.counts:
                self.count_calls()
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

    def __init__(self, tally, phase, label, total, recording=None):
        self.tally, self.phase, self.label, self.recording, self.progress = tally, phase, label, recording, Progress(phase, total)

    def __call__(self, run):
        self.tally.take(self.phase, run, self.label(run), self.recording)
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


def one_state(plan, text):
    """The loss of power that a failure's second line names."""
    at, moment, kind, seed = text.split()
    recording = power.Recording.kept_at(at, plan.root)
    recording.read()
    images = [f"{cell.TOOLS}/replay{i}" for i in range(2)]
    spec = {**recording.spec(recording.builder(), (int(moment), kind, int(seed)), images), "show": True}

    def done(run):
        plan.tally.take("replay", run, text)
        print((run.result or {}).get("log", ""))
    cell.run_all(power.run_state, [spec], 1, SECONDS, done)
    for image in images:
        os.unlink(image)


def seed_of(text):
    """A number; or `tree`: one that the sources make."""
    if text != "tree":
        return int(text)
    octets = hashlib.sha256()
    for folder in ("common", "queue", "smtpd", "remote", "local", "tests/crash"):
        for at, _, names in sorted(os.walk(f"{cell.TOP}/{folder}")):
            for name in sorted(name for name in names if re.search(r"\.([ch]|def|py)$", name)):
                with open(f"{at}/{name}", "rb") as f:
                    octets.update(hashlib.sha256(f.read()).digest())
    return int.from_bytes(octets.digest()[:3], "big")


def close(plan, whole):
    """The closing lines, and the exit code. What a whole run cannot do is missing from its proof; a sample goes without."""
    t = plan.tally
    missing = t.skipped if whole else []
    bad = len(t.failed) + len(t.surprises) + len(missing)
    print(f"clients were told 250 {t.acknowledged} times, each was judged; `tappal queue check` found something in {t.kinds['check']} states")
    print(f"{t.states - len(t.failed) + t.tests - len(t.surprises)} passed, {bad} failed" + (f", {len(t.skipped)} skipped" if t.skipped else ""))
    if t.errors or t.surprises or t.idle or missing:
        print(f"{t.idle} faults were never reached and are not counted, {t.errors} states could not be judged, "
              f"{len(t.surprises)} tests of the rig failed, {len(missing)} phases could not be run")
    print(f"crash: {t.states} states, {t.kinds['lost']} lost, {t.kinds['ghost']} ghosts, {t.kinds['duplicate']} duplicates over bound, "
          f"{t.kinds['leak']} leaks")
    return 1 if bad else 0


def main():
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", type=seed_of, default=int.from_bytes(os.urandom(3), "big"))
    parser.add_argument("--only", type=lambda text: text.split(","), default=PHASES)
    parser.add_argument("--jobs", type=int, default=10 * (os.cpu_count() or 2))
    parser.add_argument("--fault")
    parser.add_argument("--replay")
    arguments = parser.parse_args()
    if os.geteuid() != 0:
        sys.exit("crash: needs root: it mounts, makes accounts and traces set-uid programs")
    held = cell.lock()
    print(f"crash: SEED={arguments.seed}", flush=True)
    cell.build_tools()
    plan = Plan(arguments)
    if arguments.fault:
        one_fault(plan, arguments.fault)
    elif arguments.replay:
        one_state(plan, arguments.replay)
    else:
        shutil.rmtree(KEPT, ignore_errors=True)
        if os.path.exists(FAILED):
            os.unlink(FAILED)
        plan.run()
    shutil.rmtree(plan.root, ignore_errors=True)
    os.close(held)
    sys.exit(close(plan, arguments.sample is None and not (arguments.fault or arguments.replay)))


if __name__ == "__main__":
    main()
