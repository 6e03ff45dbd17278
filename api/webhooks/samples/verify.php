<?php
// $server: $_SERVER; $rawBody: file_get_contents('php://input'), before json_decode.
function is_genuine(array $server, string $rawBody, string $secret): bool
{
    $expected = hash_hmac('sha256', $rawBody, $secret);
    foreach (['HTTP_X_ALLURECONNECT_SIGNATURE', 'HTTP_X_ALLURECONNECT_SIGNATURE_NEXT'] as $name) {
        if (hash_equals($expected, (string) ($server[$name] ?? ''))) {
            return true;
        }
    }
    return false;
}
