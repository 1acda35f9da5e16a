"""Streams of an engine that is reached over TLS: their input ends before their output does."""

import http.client
import socket
import ssl
import threading
from types import SimpleNamespace

import requests

from testbed.engine.streams import _TLS_SILENCE, DockerExec

KEY_AND_CERTIFICATE = """\
-----BEGIN PRIVATE KEY-----
MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQgUGLCB+VkzBOZhufC
G0QkeCbixVwz9CDwbKPKMj8gERehRANCAAT328Sy4fdBghUFlEXDrun5g7cma6CZ
B94NoKFCd93kVQqf6oZGmUJK6DMyHvlnOjZsrX7OfkQmy7vlk2B5ehnH
-----END PRIVATE KEY-----
-----BEGIN CERTIFICATE-----
MIIBdDCCARugAwIBAgIUcYBGDI7iOZCGyOPNf0m9kCzFCbYwCgYIKoZIzj0EAwIw
DzENMAsGA1UEAwwEdGVzdDAgFw0yNjExMjkyMTQwMTBaGA8yMTI2MTEwNTIxNDAx
MFowDzENMAsGA1UEAwwEdGVzdDBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABPfb
xLLh90GCFQWURcOu6fmDtyZroJkH3g2goUJ33eRVCp/qhkaZQkroMzIe+Wc6Nmyt
fs5+RCbLu+WTYHl6GcejUzBRMB0GA1UdDgQWBBSx2gupjwrZa7/mHNz8cSRmZo8X
VzAfBgNVHSMEGDAWgBSx2gupjwrZa7/mHNz8cSRmZo8XVzAPBgNVHRMBAf8EBTAD
AQH/MAoGCCqGSM49BAMCA0cAMEQCIDX50Xx7O+SlGOw80Qjj1Q8KiG94eJ269XCP
QBuGfWzxAiBhThexwbmcPWwnJQR6uFWgjNqn5jUPr2A4xAV+8nqSfw==
-----END CERTIFICATE-----
"""
"""Made for this test; they guard nothing."""


class Engine:
    """The far end: a command that answers when its input has ended, as `wc` does.

    As Go's TLS and unlike OpenSSL's, it still writes where the end of its input came below TLS.
    """

    def __init__(self, connection, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.incoming, self.outgoing, server_side=True)
        self.connection = connection
        self.thread = threading.Thread(target=self.run)
        self.thread.start()

    def run(self):
        self.until_done(self.tls.do_handshake)
        self.tls.write(b"HTTP/1.1 200 OK\r\n\r\n")
        got = b""
        while data := self.until_done(lambda: self.tls.read(100)):
            got += data
        self.tls.write(got.upper())
        self.connection.sendall(self.outgoing.read())
        self.connection.close()

    def until_done(self, action):
        """What an action returns once there is enough to read; nothing at the end."""
        while True:
            try:
                return action()
            except ssl.SSLWantReadError:
                self.connection.sendall(self.outgoing.read())
                if not (data := self.connection.recv(4096)):
                    return b""
                self.incoming.write(data)
            finally:
                self.connection.sendall(self.outgoing.read())


def test_output_comes_after_the_end_of_the_input(tmp_path):
    file = tmp_path / "both.pem"
    file.write_text(KEY_AND_CERTIFICATE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    there, here = socket.socketpair()
    engine = Engine(there, file)
    with context.wrap_socket(here) as near:
        answer = http.client.HTTPResponse(near)
        answer.begin()
        response = requests.Response()
        response.raw = SimpleNamespace(_fp=answer, close=lambda: None, release_conn=lambda: None)
        session = DockerExec(response, tty=True, inspect=dict, resize=lambda *_: None)
        assert near.gettimeout() == _TLS_SILENCE
        session.send(b"to and fro")
        session.end_input()
        assert b"".join(data for _, data in session) == b"TO AND FRO"
    engine.thread.join()
