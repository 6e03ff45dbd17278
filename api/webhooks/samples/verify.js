const crypto = require('node:crypto');

// headers: those of Node, whose names are in lower case; rawBody: a Buffer, before JSON.parse.
function isGenuine(headers, rawBody, secret) {
  const expected = Buffer.from(crypto.createHmac('sha256', secret).update(rawBody).digest('hex'));
  return ['x-allureconnect-signature', 'x-allureconnect-signature-next'].some((name) => {
    const given = Buffer.from(String(headers[name]));
    return given.length === expected.length && crypto.timingSafeEqual(given, expected);
  });
}
