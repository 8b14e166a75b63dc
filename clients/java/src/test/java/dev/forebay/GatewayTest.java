package dev.forebay;

import static org.junit.jupiter.api.Assertions.assertEquals;
import static org.junit.jupiter.api.Assertions.assertNotNull;
import static org.junit.jupiter.api.Assertions.assertTrue;

import dev.forebay.v1.ApplyTableRequest;
import dev.forebay.v1.Batch;
import dev.forebay.v1.Consistency;
import dev.forebay.v1.Finish;
import dev.forebay.v1.GetRowRequest;
import dev.forebay.v1.GetRowResponse;
import dev.forebay.v1.IngestServiceGrpc;
import dev.forebay.v1.Key;
import dev.forebay.v1.Open;
import dev.forebay.v1.ReadServiceGrpc;
import dev.forebay.v1.ReadStatus;
import dev.forebay.v1.Receipt;
import dev.forebay.v1.Row;
import dev.forebay.v1.RowBatch;
import dev.forebay.v1.RowKey;
import dev.forebay.v1.RowOutcome;
import dev.forebay.v1.RowReason;
import dev.forebay.v1.RowStatus;
import dev.forebay.v1.Table;
import dev.forebay.v1.TableServiceGrpc;
import dev.forebay.v1.Value;
import dev.forebay.v1.WriteRequest;
import dev.forebay.v1.WriteResponse;
import dev.forebay.v1.WriteRowsRequest;
import dev.forebay.v1.WriteRowsResponse;
import io.grpc.ManagedChannel;
import io.grpc.ManagedChannelBuilder;
import io.grpc.Status;
import io.grpc.StatusRuntimeException;
import io.grpc.stub.StreamObserver;
import java.util.ArrayList;
import java.util.List;
import java.util.concurrent.CompletableFuture;
import java.util.concurrent.TimeUnit;
import org.junit.jupiter.api.AfterAll;
import org.junit.jupiter.api.Assertions;
import org.junit.jupiter.api.BeforeAll;
import org.junit.jupiter.api.Test;

/** The generated stubs against a gateway: the system property forebay.endpoint is its host:port. */
class GatewayTest {
    private static final String TABLE = "java_features";
    private static final long DEADLINE_SECONDS = 30;

    private static ManagedChannel channel;

    @BeforeAll
    static void connect() {
        String endpoint = System.getProperty("forebay.endpoint");
        assertNotNull(endpoint, "-Dforebay.endpoint=HOST:PORT names the gateway; -DskipTests builds without one");
        channel = ManagedChannelBuilder.forTarget(endpoint).usePlaintext().build();
        TableServiceGrpc.newBlockingStub(channel)
                .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
                .applyTable(ApplyTableRequest.newBuilder()
                        .setTable(Table.newBuilder()
                                .setName(TABLE)
                                .setDdl("id STRING NOT NULL, score DOUBLE, price DECIMAL(10,2)")
                                .setKey(Key.newBuilder().addPartition("id")))
                        .build());
    }

    @AfterAll
    static void close() throws InterruptedException {
        if (channel != null) {
            channel.shutdown();
            assertTrue(channel.awaitTermination(DEADLINE_SECONDS, TimeUnit.SECONDS));
        }
    }

    private static Value text(String value) {
        return Value.newBuilder().setStringValue(value).build();
    }

    private static Row row(String id, double score, String price) {
        return Row.newBuilder()
                .addValues(text(id))
                .addValues(Value.newBuilder().setDoubleValue(score))
                .addValues(Value.newBuilder().setDecimalValue(price))
                .build();
    }

    private static GetRowResponse get(String id) {
        return ReadServiceGrpc.newBlockingStub(channel)
                .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
                .getRow(GetRowRequest.newBuilder()
                        .setTable(TABLE)
                        .setKey(RowKey.newBuilder().addValues(text(id)))
                        .setConsistency(Consistency.CONSISTENCY_STRONG)
                        .build());
    }

    @Test
    void aRowThatIsWrittenIsReadAsItWas() {
        WriteRowsResponse written = IngestServiceGrpc.newBlockingStub(channel)
                .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
                .writeRows(WriteRowsRequest.newBuilder()
                        .setOpen(Open.newBuilder().setTable(TABLE))
                        .setRows(RowBatch.newBuilder().addRows(row("unary", 0.5, "12.50")))
                        .build());
        assertEquals(1, written.getReceipt().getCommittedRows());

        GetRowResponse found = get("unary");
        assertEquals(ReadStatus.READ_STATUS_FOUND, found.getStatus());
        assertEquals(row("unary", 0.5, "12.50"), found.getRow());
        assertEquals(ReadStatus.READ_STATUS_NOT_FOUND, get("nobody").getStatus());
    }

    @Test
    void aSessionReportsTheRowThatDoesNotFitAndWritesItsNeighbours() throws Exception {
        CompletableFuture<Receipt> receipt = new CompletableFuture<>();
        List<RowOutcome> outcomes = new ArrayList<>();
        StreamObserver<WriteRequest> session = IngestServiceGrpc.newStub(channel)
                .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
                .write(new StreamObserver<WriteResponse>() {
                    @Override
                    public void onNext(WriteResponse response) {
                        outcomes.addAll(response.getAck().getOutcomesList());
                        if (response.hasFinished()) {
                            receipt.complete(response.getFinished().getReceipt());
                        }
                    }

                    @Override
                    public void onError(Throwable error) {
                        receipt.completeExceptionally(error);
                    }

                    @Override
                    public void onCompleted() {
                        receipt.completeExceptionally(new AssertionError("the call ended without Finished"));
                    }
                });
        session.onNext(WriteRequest.newBuilder().setOpen(Open.newBuilder().setTable(TABLE)).build());
        session.onNext(WriteRequest.newBuilder()
                .setBatch(Batch.newBuilder()
                        .setBatchSeq(1)
                        .setRows(RowBatch.newBuilder()
                                .addRows(row("first", 1, "1.00"))
                                .addRows(row("bad", 2, "1.001"))
                                .addRows(row("last", 3, "3.00"))))
                .build());
        session.onNext(WriteRequest.newBuilder()
                .setFinish(Finish.newBuilder().setBatches(1).setRows(3))
                .build());
        Receipt totals = receipt.get(DEADLINE_SECONDS, TimeUnit.SECONDS);
        session.onCompleted();

        assertEquals(2, totals.getCommittedRows());
        assertEquals(1, totals.getRejectedRows());
        assertEquals(1, outcomes.size());
        assertEquals(1, outcomes.get(0).getRowIndex());
        assertEquals(RowStatus.ROW_STATUS_REJECTED, outcomes.get(0).getStatus());
        assertEquals(RowReason.ROW_REASON_INEXACT, outcomes.get(0).getReason());
        assertEquals("price", outcomes.get(0).getFieldPath());
        assertEquals(ReadStatus.READ_STATUS_FOUND, get("first").getStatus());
        assertEquals(ReadStatus.READ_STATUS_NOT_FOUND, get("bad").getStatus());
        assertEquals(ReadStatus.READ_STATUS_FOUND, get("last").getStatus());
    }

    @Test
    void aMissingTableIsAnErrorOfTheCall() {
        StatusRuntimeException error = Assertions.assertThrows(
                StatusRuntimeException.class,
                () -> IngestServiceGrpc.newBlockingStub(channel)
                        .withDeadlineAfter(DEADLINE_SECONDS, TimeUnit.SECONDS)
                        .writeRows(WriteRowsRequest.newBuilder()
                                .setOpen(Open.newBuilder().setTable("nowhere"))
                                .setRows(RowBatch.newBuilder().addRows(row("a", 1, "1.00")))
                                .build()));
        assertEquals(Status.Code.NOT_FOUND, error.getStatus().getCode());
    }
}
