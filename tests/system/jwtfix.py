"""Tokens of issuers, signed with python3-cryptography, independently of core/."""
import base64
import hashlib
import json

from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(value, size=None):
    return b64(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


class Signer:
    def __init__(self, alg, kid):
        self.alg, self.kid = alg, kid
        self.key = {"RS256": lambda: rsa.generate_private_key(65537, 2048), "ES256": lambda: ec.generate_private_key(ec.SECP256R1()),
                    "EdDSA": ed25519.Ed25519PrivateKey.generate}[alg]()

    def jwk(self):
        public = self.key.public_key()
        base = {"kid": self.kid, "alg": self.alg, "use": "sig"}
        if self.alg == "RS256":
            numbers = public.public_numbers()
            return {**base, "kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
        if self.alg == "ES256":
            numbers = public.public_numbers()
            return {**base, "kty": "EC", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)}
        raw = public.public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
        return {**base, "kty": "OKP", "crv": "Ed25519", "x": b64(raw)}

    def public_pem(self):
        return self.key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)

    def sign(self, data):
        if self.alg == "RS256":
            return self.key.sign(data, padding.PKCS1v15(), hashes.SHA256())
        if self.alg == "ES256":
            r, s = decode_dss_signature(self.key.sign(data, ec.ECDSA(hashes.SHA256())))
            return r.to_bytes(32, "big") + s.to_bytes(32, "big")
        return self.key.sign(data)

    def raw(self, header, payload):
        """A rightly signed token of these two texts."""
        signed = b64(header.encode()) + "." + b64(payload.encode())
        return signed + "." + b64(self.sign(signed.encode()))

    def token(self, claims, header=None):
        head = {"alg": self.alg, "typ": "JWT", "kid": self.kid, **(header or {})}
        return self.raw(json.dumps(head), json.dumps(claims, ensure_ascii=False))


P256_N = 0xffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551
ED_L = 2**252 + 27742317777372353535851937790883648493
SHA256_INFO = bytes.fromhex("3031300d060960864801650304020105000420")


def bent_signatures(signer, data):
    """(what is bent, signature) that no verifier may take."""
    good = signer.sign(data)
    yield "cut", good[:-1]
    yield "a byte more", good + b"\0"
    yield "a byte before", b"\0" + good
    yield "empty but for a zero", b"\0"
    yield "all zeros", bytes(len(good))
    yield "all ones", b"\xff" * len(good)
    yield "first bit", bytes([good[0] ^ 0x80]) + good[1:]
    yield "last bit", good[:-1] + bytes([good[-1] ^ 1])
    yield "of another text", signer.sign(data + b"x")
    yield from {"RS256": bent_rsa, "ES256": bent_ecdsa, "EdDSA": bent_eddsa}[signer.alg](signer, data, good)


def bent_ecdsa(signer, data, good):
    r, s = int.from_bytes(good[:32], "big"), int.from_bytes(good[32:], "big")
    pair = lambda r, s, size=32: r.to_bytes(size, "big") + s.to_bytes(size, "big")
    yield "DER", signer.key.sign(data, ec.ECDSA(hashes.SHA256()))
    yield "r = 0", pair(0, s)
    yield "s = 0", pair(r, 0)
    yield "both 1", pair(1, 1)
    yield "r = n", pair(P256_N, s)
    yield "s = n", pair(r, P256_N)
    yield "s and r swapped", pair(s, r)
    yield "longer numbers", pair(r, s, 33)
    yield "r + n", pair(r + P256_N, s, 33)
    r, s = decode_dss_signature(signer.key.sign(data, ec.ECDSA(hashes.SHA384())))
    yield "another hash", pair(r, s)


def bent_eddsa(signer, data, good):
    s = int.from_bytes(good[32:], "little")
    yield "s + L", good[:32] + (s + ED_L).to_bytes(32, "little")
    yield "s = 0", good[:32] + bytes(32)
    yield "R = 0", bytes(32) + good[32:]
    yield "R the neutral point", b"\1" + bytes(31) + bytes(32)
    yield "hash signed", signer.key.sign(hashlib.sha512(data).digest())


def bent_rsa(signer, data, good):
    numbers = signer.key.private_numbers()
    n, size = numbers.public_numbers.n, len(good)
    power = lambda block: pow(int.from_bytes(block, "big"), numbers.d, n).to_bytes(size, "big")
    digest = hashlib.sha256(data).digest()
    block = lambda info, hashed: b"\0\1" + b"\xff" * (size - 3 - len(info) - len(hashed)) + b"\0" + info + hashed
    assert power(block(SHA256_INFO, digest)) == good
    yield "plus n", (int.from_bytes(good, "big") + n).to_bytes(size + 1, "big")
    yield "PSS", signer.key.sign(data, padding.PSS(padding.MGF1(hashes.SHA256()), 32), hashes.SHA256())
    yield "SHA-1", signer.key.sign(data, padding.PKCS1v15(), hashes.SHA1())
    yield "SHA-512", signer.key.sign(data, padding.PKCS1v15(), hashes.SHA512())
    yield "no DigestInfo", power(block(b"", digest))
    yield "DigestInfo without NULL", power(block(bytes.fromhex("302f300b0609608648016503040201") + b"\4\x20", digest))
    yield "block type 2", power(b"\0\2" + block(SHA256_INFO, digest)[2:])
    yield "eight bytes of padding, garbage behind", power(
        (b"\0\1" + b"\xff" * 8 + b"\0" + SHA256_INFO + digest).ljust(size, b"\x11"))
    yield "a byte of padding bent", power(block(SHA256_INFO, digest).replace(b"\xff\xff\0", b"\xff\xfe\0", 1))
    yield "one", (1).to_bytes(size, "big")
