import java.nio.charset.StandardCharsets;
import java.security.GeneralSecurityException;
import java.security.MessageDigest;
import java.util.HexFormat;
import java.util.function.Function;
import java.util.stream.Stream;
import javax.crypto.Mac;
import javax.crypto.spec.SecretKeySpec;

final class Signatures {
    /** header: such as request::getHeader; rawBody: before it is parsed. Java 17 or newer. */
    static boolean isGenuine(Function<String, String> header, byte[] rawBody, String secret)
            throws GeneralSecurityException {
        Mac mac = Mac.getInstance("HmacSHA256");
        mac.init(new SecretKeySpec(secret.getBytes(StandardCharsets.UTF_8), "HmacSHA256"));
        byte[] expected = HexFormat.of().formatHex(mac.doFinal(rawBody)).getBytes(StandardCharsets.UTF_8);
        return Stream.of("X-AllureConnect-Signature", "X-AllureConnect-Signature-Next")
                .map(header)
                .anyMatch(given -> given != null
                        && MessageDigest.isEqual(given.getBytes(StandardCharsets.UTF_8), expected));
    }
}
