"""Feeds a topic for the check of the live page: passages of the demo's sample and some lines in other languages, at a rate that goes up and
down, until it is killed. Usage: feed.py BOOTSTRAP TOPIC DOCUMENTS_A_SECOND"""

import json
import math
import pathlib
import random
import sys
import time

from confluent_kafka import Producer

OTHERS = {
    "de": "Jemand musste Josef K. verleumdet haben, denn ohne daß er etwas Böses getan hätte, wurde er eines Morgens verhaftet. Die Köchin der "
    "Frau Grubach, seiner Zimmervermieterin, die ihm jeden Tag gegen acht Uhr früh das Frühstück brachte, kam diesmal nicht. Das war noch niemals "
    "geschehen. K. wartete noch ein Weilchen, sah von seinem Kopfkissen aus die alte Frau, die ihm gegenüber wohnte.",
    "fr": "Longtemps, je me suis couché de bonne heure. Parfois, à peine ma bougie éteinte, mes yeux se fermaient si vite que je n'avais pas le "
    "temps de me dire : Je m'endors. Et, une demi-heure après, la pensée qu'il était temps de chercher le sommeil m'éveillait.",
    "es": "En un lugar de la Mancha, de cuyo nombre no quiero acordarme, no ha mucho tiempo que vivía un hidalgo de los de lanza en astillero, "
    "adarga antigua, rocín flaco y galgo corredor. Una olla de algo más vaca que carnero, salpicón las más noches.",
    "la": "Gallia est omnis divisa in partes tres, quarum unam incolunt Belgae, aliam Aquitani, tertiam qui ipsorum lingua Celtae, nostra Galli "
    "appellantur. Hi omnes lingua, institutis, legibus inter se differunt.",
}


def passages():
    sample = pathlib.Path(__file__).parents[2] / "pipelines/demo/sample.jsonl"
    for line in sample.read_bytes().splitlines():
        try:
            record = json.loads(line)
        except ValueError:
            yield {"raw": line}
            continue
        if isinstance(record, dict) and isinstance(record.get("text"), str):
            yield record


def main():
    bootstrap, topic, rate = sys.argv[1], sys.argv[2], float(sys.argv[3])
    producer = Producer({"bootstrap.servers": bootstrap})
    known, dice, sent, began = list(passages()), random.Random(7), 0, time.monotonic()
    owed = 0.0
    while True:
        time.sleep(0.1)
        age = time.monotonic() - began
        owed += 0.1 * rate * (1 + 0.6 * math.sin(age / 20) + 0.25 * math.sin(age / 3.7))
        while owed >= 1:
            owed -= 1
            sent += 1
            record = dict(dice.choice(known))
            if dice.random() < 0.14:
                language = dice.choices(list(OTHERS), [6, 4, 3, 1])[0]
                record = {"id": f"{language}-{sent}", "text": OTHERS[language], "language": language}
            if "raw" in record:
                value = record["raw"]
            else:
                # Another beginning each time, so that the cache doesn't know every window.
                words = record["text"].split(" ")
                start = dice.randrange(max(1, len(words) // 3)) if dice.random() < 0.5 else 0
                record["text"] = " ".join(words[start:])
                record["id"] = f"{record.get('id', 'record')}-{sent}"
                value = json.dumps(record).encode()
            producer.produce(topic, key=str(sent), value=value)
        producer.poll(0)


main()
