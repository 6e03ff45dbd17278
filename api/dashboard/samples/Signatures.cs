using System;
using System.Linq;
using System.Security.Cryptography;
using System.Text;

static class Signatures
{
    /// header: such as name => (string)request.Headers[name]; rawBody: before it is parsed. .NET 6 or newer.
    public static bool IsGenuine(Func<string, string> header, byte[] rawBody, string secret)
    {
        byte[] mac = HMACSHA256.HashData(Encoding.UTF8.GetBytes(secret), rawBody);
        byte[] expected = Encoding.UTF8.GetBytes(Convert.ToHexString(mac).ToLowerInvariant());
        return new[] { "X-AllureConnect-Signature", "X-AllureConnect-Signature-Next" }.Any(name =>
            CryptographicOperations.FixedTimeEquals(Encoding.UTF8.GetBytes(header(name) ?? ""), expected));
    }
}
