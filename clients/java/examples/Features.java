import dev.forebay.shaded.io.grpc.ChannelCredentials;
import dev.forebay.shaded.io.grpc.Grpc;
import dev.forebay.shaded.io.grpc.InsecureChannelCredentials;
import dev.forebay.shaded.io.grpc.ManagedChannel;
import dev.forebay.shaded.io.grpc.TlsChannelCredentials;
import dev.forebay.v1.ApplyTableRequest;
import dev.forebay.v1.Consistency;
import dev.forebay.v1.GetRowRequest;
import dev.forebay.v1.GetRowResponse;
import dev.forebay.v1.IngestServiceGrpc;
import dev.forebay.v1.Key;
import dev.forebay.v1.Open;
import dev.forebay.v1.ReadServiceGrpc;
import dev.forebay.v1.ReadStatus;
import dev.forebay.v1.Row;
import dev.forebay.v1.RowBatch;
import dev.forebay.v1.RowKey;
import dev.forebay.v1.Table;
import dev.forebay.v1.TableServiceGrpc;
import dev.forebay.v1.Value;
import dev.forebay.v1.WriteRowsRequest;
import dev.forebay.v1.WriteRowsResponse;
import java.io.File;
import java.util.concurrent.TimeUnit;

/**
 * Writes a feature row and reads it back with the shaded jar alone.
 *
 * <pre>java -cp forebay-client-0.1.0.jar Features.java HOST:PORT [CA.pem]</pre>
 */
public class Features {
    public static void main(String[] args) throws Exception {
        ChannelCredentials credentials = args.length > 1
                ? TlsChannelCredentials.newBuilder().trustManager(new File(args[1])).build()
                : InsecureChannelCredentials.create();
        ManagedChannel channel = Grpc.newChannelBuilder(args[0], credentials)
                .keepAliveTime(20, TimeUnit.SECONDS)
                .maxInboundMessageSize(16 << 20)
                .build();
        try {
            TableServiceGrpc.newBlockingStub(channel)
                    .withDeadlineAfter(30, TimeUnit.SECONDS)
                    .applyTable(ApplyTableRequest.newBuilder()
                            .setTable(Table.newBuilder()
                                    .setName("card_features")
                                    .setDdl("card_id STRING NOT NULL, score DOUBLE")
                                    .setKey(Key.newBuilder().addPartition("card_id")))
                            .build());

            Value card = Value.newBuilder().setStringValue("c1").build();
            Row row = Row.newBuilder()
                    .addValues(card)
                    .addValues(Value.newBuilder().setDoubleValue(0.97))
                    .build();
            WriteRowsResponse written = IngestServiceGrpc.newBlockingStub(channel)
                    .withDeadlineAfter(30, TimeUnit.SECONDS)
                    .writeRows(WriteRowsRequest.newBuilder()
                            .setOpen(Open.newBuilder().setTable("card_features"))
                            .setRows(RowBatch.newBuilder().addRows(row))
                            .build());
            if (written.getReceipt().getCommittedRows() != 1) {
                throw new IllegalStateException("the row was not written: " + written.getOutcomesList());
            }

            GetRowResponse found = ReadServiceGrpc.newBlockingStub(channel)
                    .withDeadlineAfter(2, TimeUnit.SECONDS)
                    .getRow(GetRowRequest.newBuilder()
                            .setTable("card_features")
                            .setKey(RowKey.newBuilder().addValues(card))
                            .addColumns("score")
                            .setConsistency(Consistency.CONSISTENCY_STRONG)
                            .build());
            // NOT_FOUND is not UNAVAILABLE: the status says which it is.
            if (found.getStatus() != ReadStatus.READ_STATUS_FOUND) {
                throw new IllegalStateException(found.getStatus() + " " + found.getMessage());
            }
            System.out.println("score " + found.getRow().getValues(0).getDoubleValue());
        } finally {
            channel.shutdown();
            if (!channel.awaitTermination(5, TimeUnit.SECONDS)) {
                channel.shutdownNow();
            }
        }
    }
}
