"""Follow the verdicts and raise an alert for each anomaly.

Members of the group "alerts" share the partitions. A verdict counts as done when the next one is requested, so a crash
repeats some alerts and loses none.

    python examples/alert_on_anomalies.py [BROKERS] [TOPIC]
"""

import asyncio
import sys

from streamer.client import Verdict, VerdictConsumer


async def alert(verdict: Verdict) -> None:
    """Call your pager here. What has to happen once should be keyed by `verdict.id`: alerts can repeat."""
    source = verdict.source
    print(f"ALERT {verdict.id}: unlike {1 - (verdict.p_value or 0):.1%} of the stream, from {source}", flush=True)


async def main(brokers: str = "localhost:9092", topic: str = "verdicts") -> None:
    async with VerdictConsumer(brokers, topic, group_id="alerts") as verdicts:
        async for verdict in verdicts:
            if verdict.verdict == "anomaly":
                await alert(verdict)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
