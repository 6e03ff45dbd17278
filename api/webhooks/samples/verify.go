package webhooks

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"net/http"
)

// IsGenuine takes the body as it came, before json.Unmarshal.
func IsGenuine(headers http.Header, rawBody []byte, secret string) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	mac.Write(rawBody)
	expected := []byte(hex.EncodeToString(mac.Sum(nil)))
	for _, name := range []string{"X-AllureConnect-Signature", "X-AllureConnect-Signature-Next"} {
		if hmac.Equal([]byte(headers.Get(name)), expected) {
			return true
		}
	}
	return false
}
