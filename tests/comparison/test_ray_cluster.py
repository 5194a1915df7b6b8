from __future__ import annotations

import socket

import pytest

from detrofit.comparison.ray_cluster import RayCluster
from detrofit.errors import DetrofitError


def test_an_address_where_nothing_listens_is_told_at_once() -> None:
    pytest.importorskip("ray", reason="ray is not installed")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    for given in (address, f"ray://{address}"):
        with pytest.raises(DetrofitError, match=f"no Ray cluster answers at '{given}'"):
            RayCluster(given)
