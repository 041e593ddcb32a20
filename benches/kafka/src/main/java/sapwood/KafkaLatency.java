package sapwood;

import java.nio.ByteBuffer;
import java.time.Duration;
import java.util.List;
import java.util.Map;
import org.apache.kafka.clients.consumer.KafkaConsumer;
import org.apache.kafka.clients.producer.KafkaProducer;
import org.apache.kafka.clients.producer.ProducerRecord;
import org.apache.kafka.common.TopicPartition;
import org.apache.kafka.common.serialization.ByteArrayDeserializer;
import org.apache.kafka.common.serialization.ByteArraySerializer;

/** From send to seen at a fixed rate, which none of Kafka's tools measures: BOOTSTRAP TOPIC SIZE RATE WARM_UP SECONDS. */
final class KafkaLatency {
    public static void main(String[] words) throws Exception {
        String bootstrap = words[0];
        var partition = new TopicPartition(words[1], 0);
        int size = Integer.parseInt(words[2]);
        Map<String, Object> producing = Map.of("bootstrap.servers", bootstrap, "acks", "1", "linger.ms", "0",
                "enable.idempotence", "false");
        try (var producer = new KafkaProducer<>(producing, new ByteArraySerializer(), new ByteArraySerializer());
                var consumer = new KafkaConsumer<>(Map.<String, Object>of("bootstrap.servers", bootstrap),
                        new ByteArrayDeserializer(), new ByteArrayDeserializer())) {
            // Both know the cluster before the first send is due.
            producer.partitionsFor(partition.topic());
            consumer.assign(List.of(partition));
            consumer.seekToBeginning(List.of(partition));
            consumer.poll(Duration.ofMillis(200));
            var load = new FixedRate(Integer.parseInt(words[3]), Integer.parseInt(words[4]), Integer.parseInt(words[5]));
            Thread receiver = new Thread(() -> {
                for (boolean last = false; !last; ) {
                    for (var record : consumer.poll(Duration.ofSeconds(1))) {
                        last = load.saw(ByteBuffer.wrap(record.value()).getLong());
                    }
                }
            });
            receiver.start();
            load.offer(due -> {
                byte[] value = new byte[size];
                ByteBuffer.wrap(value).putLong(due);
                producer.send(new ProducerRecord<>(partition.topic(), 0, null, value));
            });
            receiver.join();
            load.print();
        }
    }
}
