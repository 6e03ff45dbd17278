require 'openssl'

# headers: such as Rails' request.headers; raw_body: request.raw_post, before JSON.parse.
def genuine?(headers, raw_body, secret)
  expected = OpenSSL::HMAC.hexdigest('SHA256', secret, raw_body)
  ['X-AllureConnect-Signature', 'X-AllureConnect-Signature-Next'].any? do |name|
    OpenSSL.secure_compare(headers[name].to_s, expected)
  end
end
