"""TLS for edgefix: an authority, certificates as documents, connections by name, and ClientHellos of our own making."""
import base64
import datetime
import json
import os
import socket
import ssl

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from cryptography.x509.oid import NameOID

import test_hostile as base
from edgefix import REPO, Edge, Tenant, read_answer

UNRECOGNIZED_NAME, INTERNAL_ERROR, DECODE_ERROR, NO_APPLICATION_PROTOCOL = 112, 80, 50, 120
PEM, DER, PKCS8 = serialization.Encoding.PEM, serialization.Encoding.DER, serialization.PrivateFormat.PKCS8
CLEAR = serialization.NoEncryption()


class Authority:
    """Issues certificates; `pem` is what clients trust."""

    def __init__(self, name="Test"):
        self.name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        self.key = ec.generate_private_key(ec.SECP256R1())
        self.certificate = self._build(self.name, self.key, []).sign(self.key, hashes.SHA256())
        self.pem = self.certificate.public_bytes(PEM).decode()

    def _build(self, subject, key, names, days=90, ca=True):
        now = datetime.datetime.now(datetime.timezone.utc)
        builder = (x509.CertificateBuilder().subject_name(subject).issuer_name(self.name).public_key(key.public_key())
                   .serial_number(x509.random_serial_number()).not_valid_before(now - datetime.timedelta(days=100))
                   .not_valid_after(now + datetime.timedelta(days=days))
                   .add_extension(x509.BasicConstraints(ca=ca, path_length=None), critical=True))
        if names:
            builder = builder.add_extension(x509.SubjectAlternativeName([x509.DNSName(name) for name in names]), critical=False)
        return builder

    def issue(self, *names, key=None, days=90, chain=True, common_name=None):
        """(chain in PEM, private key) of a leaf for these names."""
        key = key or ec.generate_private_key(ec.SECP256R1())
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)] if common_name else [])
        leaf = self._build(subject, key, names, days, ca=False).sign(self.key, hashes.SHA256())
        return leaf.public_bytes(PEM).decode() + (self.pem if chain else ""), key


def seal(key, name, der, nonce=None):
    nonce = nonce or os.urandom(12)
    return base64.urlsafe_b64encode(nonce + AESGCM(key).encrypt(nonce, der, name.encode())).rstrip(b"=").decode()


def body(edge, domain, chain, key, **members):
    """The document of a certificate."""
    der = key if isinstance(key, bytes) else key.private_bytes(DER, PKCS8, CLEAR)
    return {"chain": chain, "sealed_key": seal(edge.keys.seal(), f"certificate/{domain}", der),
            "not_after": "2027-01-01T00:00:00.000Z", **members}


def put(edge, *domains, days=90, key=None):
    """Issue one certificate for these domains and commit it as document of each; returns its serial number."""
    chain, key = edge.authority.issue(*domains, days=days, key=key)
    for domain in domains:
        edge.document(f"certificate/{domain}", body(edge, domain, chain, key))
    return x509.load_pem_x509_certificate(chain.encode()).serial_number


def put_many(edge, domains):
    """One certificate for each of these domains, committed together; their serial numbers by domain."""
    lines, serials = [], {}
    for domain in domains:
        chain, key = edge.authority.issue(domain, chain=False)
        edge.seq += 1
        lines.append(json.dumps({"incarnation": edge.incarnation, "seq": edge.seq, "document": f"certificate/{domain}",
                                 "version": edge.seq, "body": json.dumps(body(edge, domain, chain, key))}))
        serials[domain] = x509.load_pem_x509_certificate(chain.encode()).serial_number
    edge._apply("\n".join(lines) + "\n")
    return serials


def remove(edge, domain):
    edge.document(f"certificate/{domain}", None)


def start(domains, workers=1, edit=lambda text: text, edit_tls=lambda text: text, before=lambda edge: None):
    """An edge with TLS as it is shipped, and recording applications of acme and globex; domains: {id: [domain, ...]}."""
    edge = Edge(workers=workers, edit=edit)
    edge.tls_port = edge.ports.take()
    edge.authority = Authority()
    (edge.dir / "etc").mkdir()
    chain, key = edge.authority.issue("localhost", *(f"{id}.localhost" for id in ("acme", "globex", "nobody")))  # no client likes *.localhost
    edge.base_serial = x509.load_pem_x509_certificate(chain.encode()).serial_number
    (edge.dir / "keys/edge-tls.crt").write_text(chain)
    (edge.dir / "keys/edge-tls.key").write_bytes(key.private_bytes(PEM, PKCS8, CLEAR))
    text = (REPO / "deploy/local/nginx-tls.conf").read_text()
    for name, value in {"edge_tls_port": edge.tls_port, "state": edge.dir}.items():
        text = text.replace("${%s}" % name, str(value))
    assert "${" not in text, "deploy/local/nginx-tls.conf has a placeholder that tlsfix does not know"
    (edge.dir / "etc/nginx-tls.conf").write_text(edit_tls(text))
    before(edge)
    edge.own(edge.dir)
    for no, id in ((42, "acme"), (7, "globex")):
        port = edge.ports.take()
        app = base.Recorder(("127.0.0.1", port), id)
        edge.echoes.append(app)
        setattr(edge, f"{id}_app", app)
        setattr(edge, id, Tenant(no, id, endpoints=[f"127.0.0.1:{port}"], database="shared1" if no == 42 else "t7",
                                 domains=domains.get(id, [])))
    edge.write_keyring()
    edge.put(edge.acme, edge.globex)
    edge.start()
    edge.good = {id: edge.bearer(getattr(edge, id)) for id in ("acme", "globex")}
    return edge


def context(edge, version=None, alpn=("http/1.1",), verify=True):
    made = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    made.load_verify_locations(cadata=edge.authority.pem)
    if not verify:
        made.check_hostname, made.verify_mode = False, ssl.CERT_NONE
    if version:
        made.minimum_version = made.maximum_version = version
    if alpn:
        made.set_alpn_protocols(list(alpn))
    return made


def connect(edge, name, made=None, session=None):
    """A TLS connection for that name (None: without SNI), verified unless the context says otherwise."""
    if made is None:
        made = context(edge, verify=name is not None)
    sock = socket.create_connection(("127.0.0.1", edge.tls_port), timeout=20)
    try:
        return made.wrap_socket(sock, server_hostname=name, session=session)
    except BaseException:
        sock.close()
        raise


def serial(connection):
    return x509.load_der_x509_certificate(connection.getpeercert(True)).serial_number


def shown(edge, name):
    """Serial number of the certificate that a verifying client of that name accepts."""
    with connect(edge, name) as connection:
        return serial(connection)


def ask(edge, connection, host, path="/orders", user="acme", *headers):
    lines = [f"GET {path} HTTP/1.1", f"Host: {host}", edge.good[user], *headers]
    connection.sendall("\r\n".join(lines).encode("latin-1") + b"\r\n\r\n")
    return read_answer(connection)


# ---- a ClientHello by hand ----

def name_list(*names, kind=0):
    """The body of the extension server_name."""
    entries = b"".join(bytes([kind]) + len(name).to_bytes(2, "big") + name for name in names)
    return len(entries).to_bytes(2, "big") + entries


def alpn_list(*protocols):
    entries = b"".join(bytes([len(protocol)]) + protocol for protocol in protocols)
    return len(entries).to_bytes(2, "big") + entries


def client_hello(*extensions, versions=b"\x03\x04\x03\x03"):
    """A record with a ClientHello; extensions: (type, body)."""
    listed = [(10, b"\0\4\0\x1d\0\x17"), (13, b"\0\x08\x04\x03\x08\x04\x04\x01\x08\x07"), (11, b"\1\0"),
              (43, bytes([len(versions)]) + versions), (51, b"\0\x24\0\x1d\0\x20" + os.urandom(32)), *extensions]
    packed = b"".join(kind.to_bytes(2, "big") + len(data).to_bytes(2, "big") + data for kind, data in listed)
    hello = (b"\3\3" + os.urandom(32) + b"\0" + b"\0\x0a\x13\x01\x13\x02\xc0\x2b\xc0\x2f\0\xff" + b"\1\0"
             + len(packed).to_bytes(2, "big") + packed)
    message = b"\1" + len(hello).to_bytes(3, "big") + hello
    return b"\x16\3\1" + len(message).to_bytes(2, "big") + message


def answer_to(edge, data):
    """What the edge says to these bytes: an alert's number, "hello", "closed" or plain bytes."""
    with socket.create_connection(("127.0.0.1", edge.tls_port), timeout=5) as sock:
        sock.sendall(data)
        got = b""
        while len(got) < 7:
            try:
                part = sock.recv(4096)
            except ConnectionResetError:
                part = b""
            if not part:
                return got or "closed"
            got += part
    if got[0] == 21:
        return got[6]
    return "hello" if got[0] == 22 and got[5] == 2 else got


def counted(edge):
    return {"acme": len(edge.acme_app.seen), "globex": len(edge.globex_app.seen)}


def rss(pid):
    """Private memory of a process in KiB."""
    for line in open(f"/proc/{pid}/smaps_rollup", encoding="ascii"):
        if line.startswith("Private_Dirty:"):
            return int(line.split()[1])
    raise AssertionError("no Private_Dirty")
