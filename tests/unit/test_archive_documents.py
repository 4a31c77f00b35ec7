"""The archive as a langchain-core vector store, and encoders as its embeddings."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from langchain_core.embeddings import DeterministicFakeEmbedding, Embeddings
from langchain_tests.integration_tests import (
    EmbeddingsIntegrationTests,
    VectorStoreIntegrationTests,
)
from langchain_tests.unit_tests import EmbeddingsUnitTests

from fovea.archive import CaseArchive, FoveaEmbeddings, FoveaVectorStore, Label, NewCase
from fovea.contract import CaseFilter
from fovea.errors import ArchiveError, ConfigError, UnreadableImage
from fovea.image import Photograph

for suite in (VectorStoreIntegrationTests, EmbeddingsIntegrationTests):
    for member in vars(suite).values():
        if inspect.iscoroutinefunction(member):
            pytest.mark.asyncio(member)  # the suites count on the automatic mode of pytest-asyncio


class TestVectorStore(VectorStoreIntegrationTests):
    """The standard suite of langchain-tests for vector stores."""

    @pytest.fixture
    def vectorstore(self, tmp_path: Path) -> Iterator[FoveaVectorStore]:
        archive = CaseArchive.open(tmp_path / "archive")
        yield FoveaVectorStore(archive, self.get_embeddings(), encoder_id="standard")
        assert archive.verify() == []
        archive.close()


class MeanColour:
    """An encoder small enough to check by hand."""

    encoder_id = "mean-colour"

    def embed(self, image: Photograph) -> np.ndarray:
        colour = image.pixels[image.field_of_view].mean(axis=0) + 1
        return np.asarray(colour / np.linalg.norm(colour), np.float32)


@pytest.fixture(scope="session")
def photographs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three photographs named as the standard suite asks for them."""
    folder = tmp_path_factory.mktemp("photographs")
    for name, colour in (("foo", (40, 90, 200)), ("bar", (30, 60, 180)), ("baz", (60, 90, 120))):
        picture = cv2.circle(np.zeros((160, 160, 3), np.uint8), (80, 80), 70, colour, -1)
        (folder / name).write_bytes(cv2.imencode(".png", picture)[1].tobytes())
    return folder


class _WithPhotographs:
    @pytest.fixture(autouse=True)
    def _folder(self, photographs: Path) -> None:
        self.photographs = photographs

    @property
    def embeddings_class(self) -> type[Embeddings]:
        return FoveaEmbeddings

    @property
    def embedding_model_params(self) -> dict[str, Any]:
        return {"encoder": MeanColour(), "folder": self.photographs}


class TestEmbeddings(_WithPhotographs, EmbeddingsIntegrationTests):
    """The standard suite of langchain-tests for embeddings."""


class TestEmbeddingsUnit(_WithPhotographs, EmbeddingsUnitTests):
    """The standard unit suite of langchain-tests for embeddings."""


def test_embeddings_are_those_of_the_encoder_and_stay_in_the_folder(photographs: Path) -> None:
    made = FoveaEmbeddings(MeanColour(), photographs)  # type: ignore[arg-type]
    expected = np.array([201, 91, 41]) / np.linalg.norm([201, 91, 41])
    np.testing.assert_allclose(made.embed_query("foo"), expected, atol=0.01)
    with pytest.raises(ConfigError, match="leads out of the folder"):
        made.embed_query("../foo")
    with pytest.raises(UnreadableImage):
        made.embed_query("absent")


@pytest.fixture
def store(tmp_path: Path) -> FoveaVectorStore:
    archive = CaseArchive.open(tmp_path / "archive")
    return FoveaVectorStore(archive, DeterministicFakeEmbedding(size=8), encoder_id="fake")


def test_documents_survive_reopening_with_scores_and_metadata(
    store: FoveaVectorStore, tmp_path: Path
) -> None:
    assert store.add_texts(["drusen", "haemorrhage"], [{"n": 1}, {"n": 2}], ids=["a", "b"]) == [
        "a", "b",
    ]  # fmt: skip
    store.archive.close()
    again = FoveaVectorStore(
        CaseArchive.open(tmp_path / "archive"), store.embeddings, encoder_id="fake"
    )
    [(first, near), (second, far)] = again.similarity_search_with_score("drusen", k=5)
    assert (first.id, first.page_content, first.metadata) == ("a", "drusen", {"n": 1})
    assert near == pytest.approx(0.0, abs=2e-3)
    assert near < far <= 2.0
    assert second.id == "b"
    by_vector = again.similarity_search_by_vector(store.embeddings.embed_query("haemorrhage"), 1)
    assert [found.id for found in by_vector] == ["b"]


def test_photographs_are_documents_by_their_digest(store: FoveaVectorStore) -> None:
    vector = np.asarray(store.embeddings.embed_query("x"), np.float32)
    jpeg = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
    labels = (Label("glaucoma", "metadata"),)
    store.archive.add(NewCase("ab" * 32, "fake", vector, jpeg, eye="OS", labels=labels))
    [found] = store.similarity_search("x", k=3, wanted=CaseFilter(eye="OS"))
    assert (found.id, found.page_content) == ("ab" * 32, "C000001: glaucoma, OS")
    assert found.metadata == {"case_id": "C000001", "eye": "OS", "labels": ["glaucoma"]}
    assert store.get_by_ids(["ab" * 32])[0].metadata == found.metadata
    assert store.similarity_search("x", wanted=CaseFilter(eye="OD")) == []
    store.delete(["ab" * 32, "unknown"])
    assert store.get_by_ids(["ab" * 32]) == []


def test_wrong_use_is_told_and_changes_nothing(store: FoveaVectorStore, tmp_path: Path) -> None:
    with pytest.raises(ArchiveError, match="do not belong together"):
        store.add_texts(["a", "b"], ids=["1"])
    with pytest.raises(ArchiveError, match="not said"):
        store.delete()
    with pytest.raises(ArchiveError, match="evidence"):
        store.add_texts(["a"], [{"x": float("nan")}])
    with pytest.raises(ConfigError, match="folder"):
        FoveaVectorStore.from_texts(["a"], store.embeddings)
    assert store.archive.encoders() == {}
    made = FoveaVectorStore.from_texts(["a"], store.embeddings, folder=tmp_path / "second")
    assert [found.page_content for found in made.similarity_search("a")] == ["a"]
