"""Put on PYTHONPATH, this takes the network away from every Python process, kernels included."""

import socket

_connect = socket.socket.connect


def _guarded(self, address):
    host = address[0] if isinstance(address, tuple) else "localhost"
    if host not in ("localhost", "127.0.0.1", "::1", "0.0.0.0"):
        raise OSError(f"no network in tests: something tried to reach {host}")
    return _connect(self, address)


socket.socket.connect = _guarded  # type: ignore[method-assign]
