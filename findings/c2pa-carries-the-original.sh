#!/bin/sh
# Expected: content credentials of a blurred photograph that name the original as the one it was made from hold what proves
# it: its hash, its format, its title; `add_ingredient` reads the file for that.
# Happens: c2pa-python puts a picture of the original into the manifest, 1,024 pixels wide for a larger one, and signs it: the
# blurred file that is passed on holds the sharp face. Viewers of credentials show it beside the blurred picture; viewers of
# photographs do not. It weighs more than the photograph. `{"builder": {"thumbnail": {"enabled": false}}}` in the settings of
# its context leaves it out. Nothing is said when it is signed.
# Met in: whoever signs pictures that this project released: give it the receipt's hash, not the original file.
# Seen with c2pa-python 0.38.1, Pillow 13.0.0, Python 3.11; a photograph of 1600x1600 with a fine pattern, painted grey:
#   painted 40 kB, signed 337 kB; picture of the original in it 1024x1024, contrast 98 (the painted one 0)
#   with thumbnails disabled: signed 44 kB, none
# The certificates are made here and last an hour; nobody trusts them, which changes nothing of it.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/pip" install --quiet --disable-pip-version-check \
  c2pa-python==0.38.1 cryptography==50.0.2 numpy==2.4.6 pillow==13.0.0 || exit 2
"$folder/env/bin/pip" list 2>/dev/null | grep -iE "^(c2pa-python|pillow) "
cd "$folder"
env/bin/python - > said 2> errors <<'PYTHON' || { tail -5 errors; exit 2; }
import datetime
import io
import json
import os

import c2pa
import numpy as np
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from PIL import Image

now = datetime.datetime.now(datetime.timezone.utc)


def name(words):
    parts = [(NameOID.COMMON_NAME, words), (NameOID.ORGANIZATION_NAME, "Trial")]
    return x509.Name([x509.NameAttribute(*part) for part in parts])


def certificate(whose, key, signer, issues):
    use = dict.fromkeys(
        ("content_commitment", "key_encipherment", "data_encipherment", "key_agreement", "encipher_only", "decipher_only"),
        False,
    )
    extensions = [
        (x509.BasicConstraints(issues, None), True),
        (x509.KeyUsage(digital_signature=not issues, key_cert_sign=issues, crl_sign=issues, **use), True),
        (x509.SubjectKeyIdentifier.from_public_key(key.public_key()), False),
        (x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key()), False),
    ]
    if not issues:
        extensions.append((x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), True))
    made = x509.CertificateBuilder(name("Root"), name(whose), key.public_key(), x509.random_serial_number())
    made = made.not_valid_before(now - datetime.timedelta(minutes=5)).not_valid_after(now + datetime.timedelta(hours=1))
    for extension, critical in extensions:
        made = made.add_extension(extension, critical)
    return made.sign(signer, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


root, own = ec.generate_private_key(ec.SECP256R1()), ec.generate_private_key(ec.SECP256R1())
chain = certificate("Signer", own, root, False) + certificate("Root", root, root, True)
plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
secret = own.private_bytes(serialization.Encoding.PEM, *plain)
signer = c2pa.Signer.from_info(c2pa.C2paSignerInfo(alg=b"es256", sign_cert=chain, private_key=secret, ta_url=None))

y, x = np.mgrid[:1600, :1600]
Image.fromarray(((x // 24 + y // 24) % 2 * 200 + 30).astype(np.uint8)).convert("RGB").save("original.jpg")
Image.new("RGB", (1600, 1600), (120, 120, 120)).save("painted.jpg")
steps = [{"action": "c2pa.opened", "parameters": {"ingredientIds": ["original"]}}, {"action": "c2pa.edited"}]
manifest = {
    "claim_generator_info": [{"name": "trial", "version": "1"}],
    "title": "painted.jpg",
    "assertions": [{"label": "c2pa.actions", "data": {"actions": steps}}],
}
ingredient = {"title": "original.jpg", "relationship": "parentOf", "label": "original"}


def signed(target, **settings):
    builder = c2pa.Builder(manifest, **settings)
    with open("original.jpg", "rb") as original:
        builder.add_ingredient(ingredient, "image/jpeg", original)
    with open("painted.jpg", "rb") as painted, open(target, "wb+") as file:
        builder.sign(signer, "image/jpeg", painted, file)
    reader = c2pa.Reader(target)
    known = json.loads(reader.json())
    (parent,) = known["manifests"][known["active_manifest"]]["ingredients"]
    if "thumbnail" not in parent:
        return "none"
    stream = io.BytesIO()
    reader.resource_to_stream(parent["thumbnail"]["identifier"], stream)
    picture = Image.open(io.BytesIO(stream.getvalue()))
    return f"{picture.width}x{picture.height} contrast {np.asarray(picture.convert('L')).std():.0f}"


without = c2pa.Context.from_dict({"builder": {"thumbnail": {"enabled": False}}})
print("in the signed file:", signed("signed.jpg"))
print("disabled:", signed("without.jpg", context=without))
print("kB:", *(os.path.getsize(f"{path}.jpg") // 1000 for path in ("original", "painted", "signed", "without")))
PYTHON
cat said
head -2 said | tr '\n' ';' | grep -qE "^in the signed file: 1024x1024 contrast [6-9][0-9];disabled: none;$" ||
  { echo "changed: the original stays out, or comes otherwise"; exit 1; }
