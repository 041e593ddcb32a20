package sapwood;

import java.util.Comparator;
import java.util.List;
import org.apache.kafka.common.TopicPartition;

/** Prints a line per check, as `run` counts them. */
final class Checks {
    static final Comparator<TopicPartition> BY_NAME =
        Comparator.comparing(TopicPartition::topic).thenComparingInt(TopicPartition::partition);

    private Checks() {}

    /** Something that holds if it returns, and says in an exception why it does not. */
    interface Claim {
        void hold() throws Exception;
    }

    static void check(String name, Claim claim) {
        try {
            claim.hold();
            System.out.println("ok: " + name);
        } catch (Exception | AssertionError problem) {
            System.out.println("FAILED: " + name + ": " + problem);
        }
    }

    static void equal(Object found, Object expected, String what) {
        if (!found.equals(expected)) {
            throw new AssertionError(what + ": found " + found + ", expected " + expected);
        }
    }

    static void same(List<?> found, List<?> expected) {
        for (int i = 0; i < Math.min(found.size(), expected.size()); i++) {
            equal(found.get(i), expected.get(i), "number " + i);
        }
        equal(found.size(), expected.size(), "how many there are");
    }
}
