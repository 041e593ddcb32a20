package sapwood;

import java.io.PrintStream;
import java.nio.charset.StandardCharsets;
import java.util.Random;
import org.apache.kafka.clients.producer.internals.BuiltInPartitioner;

/** Says for ten thousand keys which partition Kafka's producer puts them into. */
final class Partitions {
    private static final int KEYS = 10_000;
    private static final int LENGTH_MAX = 300;
    private static final int PARTITIONS_MAX = 1_000;

    private Partitions() {}

    /** Prints lines of key (hexadecimal; "-" if empty), number of partitions, partition. The same at every run. */
    public static void main(String[] arguments) {
        Random random = new Random(20_240_229);
        PrintStream out = new PrintStream(System.out, false, StandardCharsets.UTF_8);
        for (int i = 0; i < KEYS; i++) {
            // Every length comes, the small ones first.
            byte[] key = new byte[i <= LENGTH_MAX ? i : random.nextInt(LENGTH_MAX + 1)];
            random.nextBytes(key);
            int partitions = 1 + random.nextInt(PARTITIONS_MAX);
            String hex = key.length == 0 ? "-" : Line.hex(key);
            out.println(hex + " " + partitions + " " + BuiltInPartitioner.partitionForKey(key, partitions));
        }
        out.flush();
    }
}
