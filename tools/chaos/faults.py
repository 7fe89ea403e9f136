"""Owns what each fault of the schedule does, and how all of it is made good again.

A fault that lasts puts its own end on the `later` list. `heal` ends all that last, for a checkpoint.
"""

import pathlib
import random
import signal
import time

from confluent_kafka.admin import AclBinding, AclBindingFilter, AclOperation, AclPermissionType, ResourcePatternType, ResourceType

from cluster import USER

HANDOVER = ("partitions revoked", "partitions assigned")


class Faults:
    """Strikes. `done` counts what really happened, which may be less than was planned: nobody kills a worker that has just ended."""

    # How long a static member is away until the group has given it up, in seconds: its session lasts 4.
    GIVEN_UP = 6

    def __init__(self, cluster, workers, referee, topics, disk, caches, clocks, say):
        self.cluster, self.workers, self.referee, self.topics = cluster, workers, referee, topics
        self.disk, self.caches, self.clocks, self.say = disk, caches, clocks, say
        self.later, self.done, self.denied = [], {}, False

    def strike(self, event):
        deed = getattr(self, event.kind.replace("-", "_"))
        happened = deed(self.target(event.slot), event.value)
        if happened:
            name = happened if isinstance(happened, str) else event.kind
            self.done[name] = self.done.get(name, 0) + 1
        self.say(f"{event}  {happened or 'had nothing to strike'}")

    def target(self, slot):
        """The worker of this slot, or the next that is there to be struck."""
        order = self.workers[slot:] + self.workers[:slot]
        return next((worker for worker in order if worker.runs() and not worker.stopped), self.workers[slot])

    def after(self, seconds, deed):
        self.later.append((time.monotonic() + seconds, deed))

    def tend(self):
        """Ends what has lasted long enough."""
        now = time.monotonic()
        due, self.later = [d for at, d in self.later if at <= now], [(at, d) for at, d in self.later if at > now]
        for deed in due:
            deed()

    def heal(self):
        """Ends everything that lasts, at once."""
        deadline = time.monotonic() + 90
        while self.later:
            due, self.later = self.later, []
            for _, deed in due:
                deed()
            if time.monotonic() > deadline:
                raise RuntimeError("a fault could not be made good within 90 s")
        for worker in self.workers:
            worker.signal(signal.SIGCONT)
        for proxy in self.cluster.proxies:
            proxy.set()

    def kills(self):
        return sum(count for kind, count in self.done.items() if kind.startswith("kill"))

    # workers

    def kill(self, worker, value):
        worker.restart_at = time.monotonic() + value
        return worker.kill()

    def caught_inside(self, worker):
        """Stops a worker again and again until records of its transaction stand undecided in the log. False if that takes too long."""
        if any(other.stopped for other in self.workers):
            return False  # theirs may be what is undecided
        for attempt in range(30):
            time.sleep(0.005 + attempt * 13 % 41 / 1000)
            if not worker.signal(signal.SIGSTOP):
                return False
            try:
                # The others' transactions are decided within the second look; what stays undecided is the stopped one's.
                if self.referee.undecided() and (time.sleep(0.4) or self.referee.undecided()):
                    return True
            except Exception as error:  # the brokers don't answer just now
                self.say(f"  no look at the log: {error}")
                worker.signal(signal.SIGCONT)
                return False
            worker.signal(signal.SIGCONT)
        return False

    def kill_transaction(self, worker, value):
        inside = self.caught_inside(worker)
        return self.kill(worker, value) and ("kill-transaction" if inside else "kill")

    def transaction_timeout(self, worker, value):
        """Holds a worker still inside a transaction until the broker has given the transaction up, and lets it go on."""
        inside = self.caught_inside(worker)
        if not worker.signal(signal.SIGSTOP):
            return False
        self.after(19 + 3 * value, lambda: worker.signal(signal.SIGCONT))
        return "transaction-timeout" if inside else "zombie"

    def wait_for_line(self, worker, lines, seconds):
        """Whether one of `lines` is added to a worker's log within `seconds`."""
        path, deadline = pathlib.Path(worker.log), time.monotonic() + seconds
        seen = path.stat().st_size
        while time.monotonic() < deadline and worker.runs():
            with open(path, "rb") as log:
                log.seek(seen)
                if any(line in log.read().decode(errors="replace") for line in lines):
                    return True
            time.sleep(0.002)
        return False

    def kill_rebalance(self, worker, value):
        """Makes another worker leave, and kills this one when its partitions change hands."""
        others = [other for other in self.workers if other is not worker and other.runs() and not other.stopped]
        if not worker.runs() or worker.stopped or not others:
            return self.kill(worker, value) and "kill"
        others[int(value * len(others)) % len(others)].signal(signal.SIGTERM)
        inside = self.wait_for_line(worker, HANDOVER, 8)
        time.sleep(value * 0.05)
        return self.kill(worker, value) and ("kill-rebalance" if inside else "kill")

    def kill_drain(self, worker, value):
        if not worker.signal(signal.SIGTERM):
            return False
        draining = self.wait_for_line(worker, ("draining",), 3)
        time.sleep(value * 0.3)
        return self.kill(worker, value) and ("kill-drain" if draining else "kill")

    def kill_start(self, worker, value):
        """Kills a worker that has just been started: while it opens, connects, loads or joins."""
        self.kill(worker, 0)
        worker.attend(time.monotonic())
        worker.start()
        time.sleep(1.2 * value)
        return self.kill(worker, value)

    def drain(self, worker, value):
        return worker.signal(signal.SIGTERM)

    def pause(self, worker, value):
        self.after(0.2 + 2 * value, lambda: worker.signal(signal.SIGCONT))
        return worker.signal(signal.SIGSTOP)

    def zombie(self, worker, value):
        """Stops a worker for longer than the group's session lasts: the others take over what it goes on working at afterwards."""
        self.after(6 + 6 * value, lambda: worker.signal(signal.SIGCONT))
        return worker.signal(signal.SIGSTOP)

    def zombie_rebalance(self, worker, value):
        """Takes a worker away until the group has given it up, brings it back, and stops the first of the others that gives up partitions for it, for
        longer than its session."""
        worker.restart_at = float("inf")
        if not worker.kill():
            return False
        until = time.monotonic() + self.GIVEN_UP
        while time.monotonic() < until:
            for each in self.workers:
                each.attend(time.monotonic())
            self.tend()
            time.sleep(0.02)
        worker.restart_at = 0.0
        worker.attend(time.monotonic())
        others = [other for other in self.workers if other is not worker and other.runs() and not other.stopped]
        giver = self.first_to_say(HANDOVER[0], others, 8)
        if giver is None or not giver.signal(signal.SIGSTOP):
            return "kill"
        self.after(6 + 6 * value, lambda: giver.signal(signal.SIGCONT))
        # It says the second as soon as it has given up the first.
        text = giver.tail()
        return "zombie-rebalance" if text.rfind(HANDOVER[0]) > text.rfind(HANDOVER[1]) else "zombie"

    def first_to_say(self, line, workers, seconds):
        """The first of `workers` to add `line` to its log within `seconds`, or None."""
        seen = [(worker, pathlib.Path(worker.log), pathlib.Path(worker.log).stat().st_size) for worker in workers]
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            for worker, path, size in seen:
                with open(path, "rb") as log:
                    log.seek(size)
                    if worker.runs() and line in log.read().decode(errors="replace"):
                        return worker
            time.sleep(0.001)
        return None

    # brokers

    def crash(self, index, seconds):
        broker = self.cluster.brokers[index]
        if not broker.is_up():
            return False
        broker.kill()
        self.after(seconds, broker.up)
        return True

    def broker_kill(self, _, value):
        return self.crash(int(value * 997) % len(self.cluster.brokers), 1 + 4 * value)

    def leader_kill(self, worker, value):
        """Kills the node that leads an output's partition."""
        return self.lost("leader-kill", self.topics["pass"], worker.slot, value)

    def coordinator_kill(self, worker, value):
        """Kills the node that leads a partition of the groups' or of the transactions' own topic, hence their coordinator."""
        topic = "__consumer_offsets" if value < 0.5 else "__transaction_state"
        return self.lost("coordinator-kill", topic, worker.slot, value)

    def lost(self, kind, topic, number, value):
        try:
            index = self.cluster.leader(topic, number % 4)
        except Exception as error:
            self.say(f"  no leader to be learnt: {error}")
            return False
        return index is not None and self.crash(index, 3 + 4 * value) and kind

    # network

    def wire(self, seconds, **how):
        for proxy in self.cluster.proxies:
            proxy.set(**how)
        self.after(seconds, lambda: [proxy.set() for proxy in self.cluster.proxies])
        return True

    def delay(self, _, value):
        return self.wire(3 + 3 * value, delay=0.05 + 0.5 * value)

    def slow_sink(self, _, value):
        return self.wire(3 + 5 * value, rate=20_000 + int(200_000 * value))

    def partition(self, _, value):
        return self.wire(1 + 8 * value, swallow=("requests", "answers"))

    def lost_answers(self, _, value):
        """Requests arrive and are done, and nobody hears of it; then the connections break."""
        self.wire(1 + 5 * value, swallow=("answers",))
        self.after(0.9 + 5 * value, lambda: [proxy.reset() for proxy in self.cluster.proxies])
        return True

    def reset(self, _, value):
        for proxy in self.cluster.proxies:
            proxy.reset()
        return True

    # permissions

    def read_only(self, worker, value):
        """Takes from tamis the right to write to one output: with any rule for a topic, what is not allowed is denied."""
        topic = list(self.topics.values())[worker.slot % len(self.topics)]
        name = (ResourceType.TOPIC, topic, ResourcePatternType.LITERAL)
        rules = [AclBinding(*name, f"User:{USER}", "*", what, AclPermissionType.ALLOW) for what in (AclOperation.READ, AclOperation.DESCRIBE)]
        try:
            for future in self.cluster.admin.create_acls(rules, request_timeout=2).values():
                future.result()
        except Exception as error:  # a broker may be down as well
            self.say(f"  no rule made: {error}")
            self.after(1, lambda: self.allow(name))
            return False
        self.after(2 + 5 * value, lambda: self.allow(name))
        return True

    def allow(self, name):
        """Takes the rules away, or tries again soon."""
        everything = AclBindingFilter(*name, f"User:{USER}", None, AclOperation.ANY, AclPermissionType.ANY)
        try:
            for future in self.cluster.admin.delete_acls([everything], request_timeout=2).values():
                future.result()
        except Exception as error:
            self.say(f"  no rule taken away: {error}")
            self.after(1, lambda: self.allow(name))

    # the machine

    def clock_jump(self, worker, value):
        """Sets a worker's wall clock back or forward by up to a day."""
        self.clocks[worker.slot].write_text(f"{(value - 0.5) * 172_800:+.0f}\n")
        return True

    def disk_full(self, _, value):
        """Fills the disk that the caches are on, for a while."""
        ballast = self.disk / "ballast"
        try:
            with open(ballast, "wb", buffering=0) as file:
                for size in (1 << 16, 1 << 12, 1 << 9):
                    try:
                        while file.write(bytes(size)):
                            pass
                    except OSError:
                        pass
        except OSError:
            pass
        self.after(3 + 8 * value, lambda: ballast.unlink(missing_ok=True))
        return True

    def damage(self, worker, value, harm):
        """Kills a worker, harms some files of a cache that nobody has open any more, and leaves the start to the supervisor."""
        self.kill(worker, 0.1)
        rng, harmed = random.Random(value), 0
        # A running worker's files are left alone: what happens to those is the disk's fault, and another test's.
        files = [p for p in self.caches.rglob("*") if p.is_file() and p.stat().st_size > 0 and "lock" not in p.name and self.is_free(p)]
        for path in files:
            if rng.random() < 0.5:
                try:
                    harm(path, rng)
                    harmed += 1
                except OSError:
                    pass
        return harmed > 0

    def is_free(self, path):
        """Whether no living worker has this file or its neighbours open."""
        for worker in self.workers:
            if not worker.runs():
                continue
            try:
                held = {str(link.readlink()) for link in pathlib.Path(f"/proc/{worker.process.pid}/fd").iterdir()}
            except OSError:
                continue
            if any(one.startswith(str(path.parent)) for one in held):
                return False
        return True

    def cache_cut(self, worker, value):
        def cut(path, rng):
            with open(path, "r+b") as file:
                file.truncate(int(path.stat().st_size * rng.random()))

        return self.damage(worker, value, cut)

    def cache_flip(self, worker, value):
        def flip(path, rng):
            with open(path, "r+b") as file:
                data = bytearray(file.read())
                for _ in range(1 + len(data) // 500):
                    data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
                file.seek(0)
                file.write(data)

        return self.damage(worker, value, flip)
