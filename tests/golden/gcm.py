"""AES-256-GCM in plain Python, from FIPS 197 and NIST SP 800-38D: an oracle that shares no code with libcrypto."""


def _times(a, b):
    """Product in AES's field of 256."""
    product = 0
    while b:
        product ^= a if b & 1 else 0
        a = (a << 1 ^ 0x11B) if a & 0x80 else a << 1
        b >>= 1
    return product


def _sbox():
    box = []
    for x in range(256):
        inverse = next((y for y in range(256) if _times(x, y) == 1), 0)
        bits = 0x63
        for turn in range(5):
            bits ^= (inverse << turn | inverse >> 8 - turn) & 0xFF
        box.append(bits)
    return box


SBOX = _sbox()


def _round_keys(key):
    words, constant = [list(key[i:i + 4]) for i in range(0, 32, 4)], 1
    while len(words) < 60:
        word = list(words[-1])
        if len(words) % 8 == 0:
            word = [SBOX[b] for b in word[1:] + word[:1]]
            word[0] ^= constant
            constant = _times(constant, 2)
        elif len(words) % 8 == 4:
            word = [SBOX[b] for b in word]
        words.append([a ^ b for a, b in zip(words[-8], word)])
    return [sum(words[i:i + 4], []) for i in range(0, 60, 4)]


def _block(keys, data):
    state = [a ^ b for a, b in zip(data, keys[0])]
    for number, key in enumerate(keys[1:], 1):
        state = [SBOX[state[(i + 4 * (i % 4)) % 16]] for i in range(16)]  # SubBytes, ShiftRows
        if number < 14:
            columns = [state[i:i + 4] for i in range(0, 16, 4)]
            state = [_times(c[i], 2) ^ _times(c[(i + 1) % 4], 3) ^ c[(i + 2) % 4] ^ c[(i + 3) % 4]
                     for c in columns for i in range(4)]
        state = [a ^ b for a, b in zip(state, key)]
    return bytes(state)


def _ghash(h, *parts):
    def multiply(x, y):
        product = 0
        for i in range(127, -1, -1):
            product ^= y if x >> i & 1 else 0
            y = y >> 1 ^ (0xE1 << 120 if y & 1 else 0)
        return product

    data = b"".join(part + bytes(-len(part) % 16) for part in parts)
    data += b"".join((8 * len(part)).to_bytes(8, "big") for part in parts)
    y = 0
    for i in range(0, len(data), 16):
        y = multiply(y ^ int.from_bytes(data[i:i + 16], "big"), h)
    return y.to_bytes(16, "big")


def seal(key, nonce, name, plain):
    """nonce ‖ ciphertext ‖ tag."""
    keys = _round_keys(key)
    stream = b"".join(_block(keys, nonce + i.to_bytes(4, "big")) for i in range(2, 3 + len(plain) // 16))
    cipher = bytes(a ^ b for a, b in zip(plain, stream))
    mask = _block(keys, nonce + (1).to_bytes(4, "big"))
    h = int.from_bytes(_block(keys, bytes(16)), "big")
    return nonce + cipher + bytes(a ^ b for a, b in zip(_ghash(h, name, cipher), mask))
