package sapwood;

import java.io.ByteArrayOutputStream;
import java.io.IOException;
import java.io.PrintStream;
import java.lang.reflect.InvocationTargetException;
import java.nio.charset.StandardCharsets;
import java.nio.file.Files;
import java.nio.file.Path;
import java.util.Arrays;
import org.apache.kafka.common.utils.internals.Exit;

/** Runs several of Kafka's programs one after the other: most of their time is that of starting. */
final class Tools {
    /** What the program that runs has ended with first; programs may catch what ends them, and end again. */
    private static Integer status;

    private Tools() {}

    /** Ends a program. */
    private static final class End extends Error {
        private static final long serialVersionUID = 1;
    }

    /** Argument: a file with a line for each: the class and its arguments, a tab behind each of them. */
    public static void main(String[] arguments) throws IOException {
        Exit.Procedure end = (found, message) -> {
            status = status == null ? Integer.valueOf(found) : status;
            throw new End();
        };
        Exit.setExitProcedure(end);
        Exit.setHaltProcedure(end);
        for (String line : Files.readAllLines(Path.of(arguments[0]))) {
            String[] words = line.split("\t");
            String[] rest = Arrays.copyOfRange(words, 1, words.length);
            String name = words[0].substring(words[0].lastIndexOf('.') + 1);
            Checks.check(name + " for " + subject(rest) + ": Kafka's tool does what the script says", () -> run(words[0], rest));
        }
    }

    /** What tells one command from the next: the topic or group that it is about. */
    private static String subject(String[] arguments) {
        for (int i = 0; i + 1 < arguments.length; i++) {
            if (arguments[i].matches("--(topic|group|entity-name)")) {
                return arguments[i + 1];
            }
        }
        return String.join(" ", arguments);
    }

    private static void run(String program, String[] arguments) throws ReflectiveOperationException {
        ByteArrayOutputStream said = new ByteArrayOutputStream();
        PrintStream[] streams = {System.out, System.err};
        PrintStream all = new PrintStream(said, true, StandardCharsets.UTF_8);
        status = null;
        System.setOut(all);
        System.setErr(all);
        try {
            Class.forName(program).getMethod("main", String[].class).invoke(null, (Object) arguments);
        } catch (InvocationTargetException end) {
            if (!(end.getCause() instanceof End)) {
                throw end;
            }
        } finally {
            System.setOut(streams[0]);
            System.setErr(streams[1]);
        }
        String text = said.toString(StandardCharsets.UTF_8);
        if (status != null && status != 0 || text.contains("Error: ")) {
            throw new AssertionError("exit status " + status + ", and it says: " + text.replace('\n', ' '));
        }
    }
}
