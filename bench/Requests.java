/** Prints how many requests of each kind a Kafka broker has answered so far, as JSON: java Requests.java PID */

import com.sun.tools.attach.VirtualMachine;
import java.util.Map;
import java.util.TreeMap;
import java.util.stream.Collectors;
import javax.management.ObjectName;
import javax.management.remote.JMXConnectorFactory;
import javax.management.remote.JMXServiceURL;

class Requests {
    public static void main(String[] args) throws Exception {
        var broker = VirtualMachine.attach(args[0]);
        var address = new JMXServiceURL(broker.startLocalManagementAgent());
        broker.detach();
        Map<String, Long> counts = new TreeMap<>();
        try (var connector = JMXConnectorFactory.connect(address)) {
            var server = connector.getMBeanServerConnection();
            // One for each kind and version of its protocol.
            var names = new ObjectName("kafka.network:type=RequestMetrics,name=RequestsPerSec,*");
            for (var name : server.queryNames(names, null))
                counts.merge(name.getKeyProperty("request"), (Long) server.getAttribute(name, "Count"), Long::sum);
        }
        System.out.println(counts.entrySet().stream()
            .map(kind -> "\"" + kind.getKey() + "\": " + kind.getValue())
            .collect(Collectors.joining(", ", "{", "}")));
    }
}
