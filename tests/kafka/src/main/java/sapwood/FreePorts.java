package sapwood;

import java.io.IOException;
import java.net.InetAddress;
import java.net.ServerSocket;
import java.util.ArrayList;
import java.util.List;

/** Prints ports of the loopback interface that nobody listens at; the argument says how many. */
final class FreePorts {
    private FreePorts() {}

    public static void main(String[] arguments) throws IOException {
        // All are held until all are found, so that they differ.
        List<ServerSocket> held = new ArrayList<>();
        for (int i = 0; i < Integer.parseInt(arguments[0]); i++) {
            held.add(new ServerSocket(0, 1, InetAddress.getLoopbackAddress()));
        }
        for (ServerSocket socket : held) {
            System.out.println(socket.getLocalPort());
            socket.close();
        }
    }
}
