using System;
using System.Linq;
using System.Security.Cryptography;
using System.Text;

static class Signatures
{
    // header: such as name => (string)request.Headers[name]; rawBody: before it is parsed.
    public static bool IsGenuine(Func<string, string> header, byte[] rawBody, string secret)
    {
        using (var mac = new HMACSHA256(Encoding.UTF8.GetBytes(secret)))
        {
            var hex = BitConverter.ToString(mac.ComputeHash(rawBody)).Replace("-", "").ToLowerInvariant();
            var expected = Encoding.UTF8.GetBytes(hex);
            return new[] { "X-AllureConnect-Signature", "X-AllureConnect-Signature-Next" }.Any(name =>
                CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(header(name) ?? ""), expected));
        }
    }
}
