import org.apache.kafka.common.protocol.Errors;

/** Every error code of this Kafka, with its name. */
public class ErrorCodes {
    public static void main(String[] args) {
        for (Errors error : Errors.values()) {
            System.out.println(error.code() + " " + error.name());
        }
    }
}
