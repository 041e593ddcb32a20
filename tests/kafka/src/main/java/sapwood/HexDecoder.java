package sapwood;

import java.util.HexFormat;
import org.apache.kafka.tools.api.Decoder;

/** Has Kafka's dump tool print keys and values byte for byte. */
public final class HexDecoder implements Decoder<String> {
    @Override
    public String fromBytes(byte[] bytes) {
        return HexFormat.of().formatHex(bytes);
    }
}
