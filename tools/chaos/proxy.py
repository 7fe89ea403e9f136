"""Owns the wire between workers and one broker: a TCP proxy that delays, slows down, resets, and swallows.

It knows nothing of what passes. `set` may be called from any thread, and holds for connections that are open as well as for new ones.
"""

import asyncio
import threading


class Proxy:
    """Forwards 127.0.0.1:`port` to 127.0.0.1:`target`."""

    def __init__(self, port, target):
        self.port, self.target = port, target
        self.delay, self.rate = 0.0, 0  # seconds before each piece; bytes a second, 0 for no limit
        self.swallow = frozenset()  # directions in which nothing passes: "requests", "answers"
        self.open = set()
        self.loop = asyncio.new_event_loop()
        self.ready = threading.Event()
        self.thread = threading.Thread(target=self.run, name=f"proxy-{port}", daemon=True)
        self.thread.start()
        self.ready.wait()

    def run(self):
        asyncio.set_event_loop(self.loop)
        self.server = self.loop.run_until_complete(asyncio.start_server(self.serve, "127.0.0.1", self.port, limit=1 << 18))
        self.ready.set()
        self.loop.run_forever()
        left = asyncio.all_tasks(self.loop)
        for task in left:
            task.cancel()
        self.loop.run_until_complete(asyncio.gather(*left, return_exceptions=True))

    async def serve(self, reader, writer):
        try:
            far_reader, far_writer = await asyncio.open_connection("127.0.0.1", self.target, limit=1 << 18)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, far_writer)
        self.open.add(pair)
        pumps = [asyncio.ensure_future(self.pump(reader, far_writer, "requests")), asyncio.ensure_future(self.pump(far_reader, writer, "answers"))]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        self.open.discard(pair)
        for side in pair:
            side.transport.abort()

    async def pump(self, reader, writer, direction):
        try:
            while piece := await reader.read(1 << 16):
                # What came while nothing passes is kept back, as a network that loses packets makes TCP keep it back.
                while direction in self.swallow:
                    await asyncio.sleep(0.02)
                if self.delay:
                    await asyncio.sleep(self.delay)
                if self.rate:
                    await asyncio.sleep(len(piece) / self.rate)
                writer.write(piece)
                await writer.drain()
        except OSError:
            pass

    def set(self, delay=0.0, rate=0, swallow=()):
        """What holds from now on; without arguments, everything passes again."""
        self.delay, self.rate, self.swallow = delay, rate, frozenset(swallow)

    def reset(self):
        """Breaks every open connection."""
        self.loop.call_soon_threadsafe(lambda: [side.transport.abort() for pair in self.open for side in pair])

    def close(self):
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(5)
