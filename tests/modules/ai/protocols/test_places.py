"""The protocols in every shape of an installation: with ai in a process of its own, on a port of its own, with replicas."""

from collections.abc import Callable, Iterator

import openai
import pytest

from aitbc.kernel.database.unit_of_work import Target
from tests.journeys.shapes import REPLICAS, installed
from tests.modules.ai.protocols.bench import SECONDS, Bench, ask
from tests.modules.ai.protocols.scripted_engine import MODEL
from tests.scale import only_in_full, scaled

SHAPES = scaled(("all split",), ("all split", "exposed", "ai split", REPLICAS))


@pytest.fixture(scope="module", params=SHAPES)
def placed(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, new_database: Callable[[], Target]
) -> Iterator[tuple[Bench, list[str]]]:
    """A bench, and the addresses at which the protocols are to be found."""
    folder = tmp_path_factory.mktemp("placed")
    with installed(request.param, folder, new_database) as installation:
        bench = Bench(installation.servers[0], folder)
        try:
            bench.begin()
            port = installation.servers[0].environment.get("AITBC_MODULES__AI__PORT")
            own = [f"http://127.0.0.1:{port}"] if port is not None else []
            yield bench, [server.url for server in installation.servers] + own
        finally:
            bench.close()


@only_in_full
def test_a_client_works_the_same_wherever_it_connects(placed: tuple[Bench, list[str]]) -> None:
    bench, urls = placed
    assert len(urls) > 1
    for url in urls:
        with openai.OpenAI(base_url=f"{url}/v1", api_key=bench.key, timeout=SECONDS, max_retries=0) as client:
            assert MODEL in {model.id for model in client.models.list()}
            assert client.chat.completions.create(**ask("say one")).choices[0].message.content == "one "
            with client.chat.completions.stream(**ask("count 5 0.05")) as stream:
                assert stream.get_final_completion().choices[0].message.content == "t0 t1 t2 t3 t4 "
            with pytest.raises(openai.NotFoundError, match="No miner serves"):
                client.chat.completions.create(**ask("say one") | {"model": "nope"})
            with pytest.raises(openai.NotFoundError, match="nothing at this path"):
                client.get("/nowhere", cast_to=object)
            with pytest.raises(openai.BadRequestError, match="too long"):
                client.chat.completions.create(**ask("refuse too long"))
