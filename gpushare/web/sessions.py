"""Who is signed in: a cookie that says which key a browser has shown, and proves that it did.

Owns: nothing; a session is kept by the browser alone.  Called by: ``web.pages`` (sign-in, sign-out, viewers).

The cookie is ``<key id>.<end>.<signature>``: the public id of the key, when the session ends (seconds since
1970), and an HMAC by the server's session secret over both, over the stored hash of the key and over how
often its sessions were ended.  So it holds nothing to find the key by, and it ends by itself when the key is
revoked, disabled, expired or gets another secret, because the key is looked up and judged with every request.
Signing out is counted with the key and so ends all its sessions, copies of the cookie included.
"""

import hashlib
import secrets
from datetime import UTC, datetime

from itsdangerous import BadSignature, Signer

from gpushare.core.keys import KeyRecord, KeyRing
from gpushare.core.model import Principal

COOKIE = "gpushare_session"
_LONGEST = 200  # characters; a longer cookie is not ours


class Sessions:
    """Signs and judges session cookies.

    Args:
        secret: what they are signed with; without one, sessions end with this process.
    """

    def __init__(self, secret: bytes | None = None) -> None:
        self._secret = secret or secrets.token_bytes(32)

    def issue(self, record: KeyRecord, until: datetime) -> str:
        """Returns the cookie of a browser that has shown a key."""
        return self._signer(record).sign(f"{record.id}.{until.timestamp():.0f}").decode()

    def holder(self, cookie: str, ring: KeyRing, now: datetime) -> Principal | None:
        """Returns whose session a cookie proves, None when it proves none that is still good."""
        key_id = cookie.partition(".")[0]
        record = ring.get(key_id)
        if record is None or len(cookie) > _LONGEST or not cookie.isascii():
            return None
        try:
            self._signer(record).unsign(cookie)
        except BadSignature:
            return None
        return ring.principal(key_id, now) if now < self.end(cookie) else None

    @staticmethod
    def end(cookie: str) -> datetime:
        """Returns when a session ends whose cookie was signed by us."""
        return datetime.fromtimestamp(int(cookie.split(".")[1]), UTC)

    def _signer(self, record: KeyRecord) -> Signer:
        """Returns a signer whose signatures hold for one key, its present secret, and until a sign-out."""
        return Signer(
            self._secret,
            salt=f"{COOKIE} {record.sha256} {record.sign_outs}",
            key_derivation="hmac",
            digest_method=hashlib.sha256,
        )
