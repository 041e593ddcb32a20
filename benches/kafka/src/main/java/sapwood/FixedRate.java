package sapwood;

import com.sun.management.OperatingSystemMXBean;
import java.lang.management.ManagementFactory;
import java.util.concurrent.locks.LockSupport;
import java.util.function.LongConsumer;
import org.HdrHistogram.Histogram;

/** Sends that come at a fixed rate, and what becomes of them. The same is in main.rs. */
final class FixedRate {
    private final int rate;
    private final int ignored;
    final int all;
    private final long base = System.nanoTime();
    private final Histogram latencies = new Histogram(60_000_000_000L, 3);
    private int seen;
    private double cpu;

    FixedRate(int rate, int warmUpSeconds, int seconds) {
        this.rate = rate;
        ignored = warmUpSeconds * rate;
        all = (warmUpSeconds + seconds) * rate;
    }

    /** Calls send with the time at which it was due, whatever the last call took: no coordinated omission. */
    void offer(LongConsumer send) {
        for (int n = 0; n < all; n++) {
            if (n == ignored) cpu = cpuSeconds();
            long due = base + n * 1_000_000_000L / rate;
            for (long wait = due - System.nanoTime(); wait > 0; wait = due - System.nanoTime()) {
                if (wait > 100_000) LockSupport.parkNanos(wait - 70_000);
                else Thread.yield();
            }
            send.accept(due);
        }
    }

    /** For one thread. Returns whether that was the last one. */
    boolean saw(long due) {
        if (seen >= ignored) latencies.recordValue(System.nanoTime() - due);
        return ++seen == all;
    }

    /** After both threads have ended. */
    void print() {
        System.out.printf("- %.1f %.1f %.1f %.3f%n", at(50), at(99), at(99.9),
                (cpuSeconds() - cpu) * 1e6 / (all - ignored));
    }

    private double at(double percentile) {
        return latencies.getValueAtPercentile(percentile) / 1e3;
    }

    /** User and system time of this process. */
    static double cpuSeconds() {
        return ((OperatingSystemMXBean) ManagementFactory.getOperatingSystemMXBean()).getProcessCpuTime() / 1e9;
    }
}
