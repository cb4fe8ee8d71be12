"""CIFAR-10, CIFAR-100 and MNIST as they are published: archives written here, a loopback server."""

import gzip
import hashlib
import http.server
import io
import tarfile
import threading
from pathlib import Path

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from tiny import refused

from rsynth_jax.cli import training_run
from rsynth_jax.cli.parse import expand_home
from rsynth_jax.data import archives, loader
from rsynth_jax.data.sources import labelled, labels_for, load
from rsynth_jax.storage import cache, class_names
from rsynth_jax.storage.cache import Download

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (6, 32, 32, 3), np.uint8)
LABELS = np.array([3, 9, 0, 5, 5, 7], np.uint8)


def records(images: np.ndarray, *labels: np.ndarray) -> bytes:
    """Label bytes, then the planes of red, green and blue."""
    planes = images.transpose(0, 3, 1, 2).reshape(len(images), -1)
    return np.concatenate([*(row[:, None] for row in labels), planes], axis=1).tobytes()


def packed(path: Path, contents: dict[str, bytes], kind: bytes = tarfile.REGTYPE) -> Path:
    """A .tar.gz of these files."""
    with tarfile.open(path, "w:gz") as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def cifar10(tmp_path_factory) -> Path:
    """An image in each of the five batches, and the last one in the test batch; read through other files."""
    batches = {f"data_batch_{i + 1}": records(IMAGES[i : i + 1], LABELS[i : i + 1]) for i in range(5)}
    batches |= {"test_batch": records(IMAGES[5:], LABELS[5:])}
    files = {f"cifar-10-batches-bin/{name}.bin": batches[name] for name in reversed(batches)}
    files = {"cifar-10-batches-bin/readme.html": b"<p>"} | files
    return packed(tmp_path_factory.mktemp("kriz") / "cifar-10-binary.tar.gz", files)


def idx(path: Path, array: np.ndarray) -> None:
    head = bytes((0, 0, 8, array.ndim)) + np.array(array.shape, ">u4").tobytes()
    path.write_bytes(gzip.compress(head + array.tobytes()))


def test_cifar10_is_read_from_its_archive_in_the_order_of_its_files(cifar10):
    dataset = labelled(load(f"cifar10:{cifar10}", "train"))
    images, labels = loader.in_memory(dataset)
    assert_array_equal(images, IMAGES[:5])
    assert_array_equal(labels, LABELS[:5])
    assert dataset.class_names == class_names.read(["cifar10"])
    test = load(f"cifar10:{cifar10}")  # the test images, where no split is named
    assert_array_equal(test.images[0], IMAGES[5])
    assert labels_for(test, ("cat", "horse")).tolist() == [1]
    assert load(f"cifar10:{cifar10}", "train[:40%]", image_size=8)[0].image.shape == (8, 8, 3)


def test_cifar100_has_its_fine_labels(tmp_path):
    content = records(IMAGES, LABELS, LABELS + 10)
    path = packed(tmp_path / "a.tar.gz", {"cifar-100-binary/train.bin": content})
    dataset = labelled(load(f"cifar100:{path}", "train"))
    assert_array_equal(dataset.labels, LABELS + 10)
    assert_array_equal(dataset.images[2], IMAGES[2])
    assert len(dataset.class_names) == 100 and dataset.class_names[0] == "apple"


def test_mnist_is_read_from_a_folder_and_has_one_channel(tmp_path):
    idx(tmp_path / "t10k-images-idx3-ubyte.gz", IMAGES[..., 0])
    idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS)
    images, labels = loader.in_memory(labelled(load(f"mnist:{tmp_path}")))
    assert_array_equal(images, IMAGES[..., :1])
    assert_array_equal(labels, LABELS)
    idx(tmp_path / "t10k-labels-idx1-ubyte.gz", LABELS[1:])
    with refused(match="has 5 labels for 6 images"):
        load(f"mnist:{tmp_path}")
    idx(tmp_path / "t10k-labels-idx1-ubyte.gz", IMAGES)
    with refused(match="idx1-ubyte.gz as an idx file: it holds no bytes of 1 axes"):
        load(f"mnist:{tmp_path}")


def test_a_place_is_recorded_as_it_is_from_any_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "cifar10").mkdir()
    places = ("cifar10", "folder:cifar10", "cifar10:cifar10", "mnist:cifar10")
    found = [training_run._absolute(place) for place in places]
    assert found == ["cifar10", *(f"{kind}:{tmp_path}/cifar10" for kind in ("folder", "cifar10", "mnist"))]
    assert expand_home(["cifar10:~/a"]) == [f"cifar10:{Path.home()}/a"]


# ---- what is refused


def test_splits_that_are_not_there_are_refused(cifar10):
    with refused(match="cifar10 has no split 'all': it has train and test"):
        load(f"cifar10:{cifar10}", "all")
    with refused(match="cannot read 'mnist:'"):
        load("mnist:")


@pytest.mark.parametrize(
    ("contents", "said"),
    [
        ({"x/train.bin": b""}, "it has no file cifar-100-binary/train.bin"),
        ({"cifar-100-binary/train.bin": bytes(3000)}, "has 3000 bytes, which are no records of 3074"),
        ({f"{i}": b"" for i in range(100)} | {"cifar-100-binary/train.bin": b""}, "it has no file"),
    ],
)
def test_an_archive_without_its_files_is_refused(tmp_path, contents, said):
    path = packed(tmp_path / "a.tar.gz", contents)
    with refused(match=f"cannot read .*a.tar.gz as cifar-100-binary.tar.gz: .*{said}"):
        load(f"cifar100:{path}", "train")


def test_an_archive_that_would_fill_the_memory_is_refused(tmp_path, monkeypatch, cifar10):
    sparse = io.BytesIO()
    with tarfile.open(fileobj=sparse, mode="w:gz", format=tarfile.PAX_FORMAT) as archive:
        member = tarfile.TarInfo("cifar-100-binary/train.bin")
        claim = {"GNU.sparse.major": "0", "GNU.sparse.map": "0,0", "GNU.sparse.size": str(3074 << 40)}
        member.pax_headers = claim
        archive.addfile(member)
    (tmp_path / "sparse.tar.gz").write_bytes(sparse.getvalue())
    with refused(match="it has no file"):
        load(f"cifar100:{tmp_path / 'sparse.tar.gz'}", "train")
    monkeypatch.setattr(archives, "_LARGEST", 4000)
    with refused(match="it unpacks to more than"):
        load(f"cifar10:{cifar10}")


def test_an_archive_that_is_cut_or_none_is_refused(tmp_path, cifar10):
    (tmp_path / "a.tar.gz").write_bytes(cifar10.read_bytes()[:9000])
    (tmp_path / "b.tar.gz").write_bytes(b"no archive")
    for name in "abc":
        with refused(match=f"cannot read .*{name}.tar.gz as cifar-10-binary.tar.gz: "):
            load(f"cifar10:{tmp_path / name}.tar.gz")


# ---- downloads


@pytest.fixture
def server(tmp_path, monkeypatch, cifar10):
    """A loopback server of the archive, and an empty cache folder; yields the requests so far."""
    requests = []

    class Handler(http.server.SimpleHTTPRequestHandler):
        def __init__(self, *arguments):
            super().__init__(*arguments, directory=str(cifar10.parent))

        def log_message(self, *_):
            requests.append(self.path)

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as found:
        thread = threading.Thread(target=found.serve_forever)
        thread.start()
        publish(monkeypatch, f"http://127.0.0.1:{found.server_port}", cifar10.read_bytes())
        monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
        monkeypatch.setenv("no_proxy", "*")
        yield requests
        found.shutdown()
        thread.join()


def publish(monkeypatch, host: str, content: bytes) -> Download:
    """Meanwhile the archive of CIFAR-10 is at this host."""
    download = Download(f"{host}/cifar-10-binary.tar.gz", hashlib.md5(content).hexdigest())
    changed = archives._CIFARS["cifar10"]._replace(download=download)
    monkeypatch.setitem(archives._CIFARS, "cifar10", changed)
    return download


def test_cifar10_is_downloaded_into_the_cache_once(tmp_path, server, cifar10, capsys):
    assert_array_equal(load("cifar10").images[0], IMAGES[5])
    data = tmp_path / "cache/rsynth_jax/data"
    assert [file.name for file in data.iterdir()] == [cifar10.name]
    assert capsys.readouterr().err.startswith("downloading http://127.0.0.1:")
    assert load("cifar10", "train").source == "cifar10, split 'train',"
    assert server == ["/cifar-10-binary.tar.gz"] and capsys.readouterr().err == ""
    (data / cifar10.name).write_bytes(b"cut")
    with refused(match="cifar-10-binary.tar.gz is damaged: its MD5 is not .*: remove it"):
        load("cifar10")


def test_a_download_of_another_checksum_or_size_is_refused_and_not_kept(tmp_path, server, monkeypatch):
    host = archives._CIFARS["cifar10"].download.url.rpartition("/")[0]
    download = publish(monkeypatch, host, b"other")
    with refused(match=f"{host}.* is damaged: its MD5 is not {download.digest}"):
        load("cifar10")
    monkeypatch.setattr(cache, "_LARGEST", 100)
    with refused(match="it is too large"):
        load("cifar10")
    assert not (tmp_path / "cache/rsynth_jax").exists()


def test_without_a_network_one_line_names_the_address_and_the_place(tmp_path, server, monkeypatch):
    download = publish(monkeypatch, "http://127.0.0.1:1", b"")
    monkeypatch.setenv("XDG_CACHE_HOME", "/tmp")
    with refused() as caught:
        load("cifar10")
    said = str(caught.value)
    assert download.url in said and said.endswith("put it into /tmp/rsynth_jax/data")
    download = publish(monkeypatch, archives._DIGITS["train"][0].url.rpartition("/")[0], b"")
    error = OSError("Temporary failure in name resolution")
    monkeypatch.setattr("urllib.request.urlopen", lambda *_, **__: (_ for _ in ()).throw(error))
    with refused(match="Temporary failure"):
        load("cifar10")
    monkeypatch.setenv("XDG_CACHE_HOME", "/proc")
    with refused(match="no cache folder can be written .*XDG_CACHE_HOME"):
        load("cifar10")


def test_the_published_addresses_fit_into_the_line_that_names_them():
    downloads = [kind.download for kind in archives._CIFARS.values()]
    downloads += [file for pair in archives._DIGITS.values() for file in pair]
    assert len(downloads) == 6
    for file in downloads:
        assert file.url.startswith("https://") and len(file.url) < 75
        assert file.algorithm == "MD5" and len(bytes.fromhex(file.digest)) == 16
