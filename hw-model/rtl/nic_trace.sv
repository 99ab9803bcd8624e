// Joins the events of all blocks into the decision trace, one a cycle, and counts them.
//
// Events of the receive path come as pulses: they are kept in a FIFO and go first, so that none
// is lost and a frame's acceptance stands before what is decided about it later. The others wait
// for their turn. Counters are sums over the trace, so the two cannot disagree; a read of a low
// half latches its high half.

`default_nettype none

module nic_trace
  import tandem_pkg::*;
  import tandem_stream_pkg::*;
#(
  parameter int unsigned NumSources = 8,
  parameter int unsigned RxDepth    = 64
) (
  input  wire logic                  clk_i,
  input  wire logic                  rst_ni,
  input  wire logic [7:0]            hdr_len_i,

  input  wire logic                  rx_valid_i,
  input  wire rx_event_t             rx_i,
  input  wire logic [NumSources-1:0] valid_i,
  output logic [NumSources-1:0]      ready_o,
  input  wire trace_event_t          event_i [NumSources],

  output logic                       trace_valid_o,
  output trace_event_t               trace_o,

  input  wire logic [1:0]            dma_error_i,      // pulses
  input  wire logic                  bus_read_i,       // a read of the counters' page
  input  wire logic [11:2]           bus_addr_i,
  output logic [31:0]                bus_rdata_o,
  output logic                       waiting_o         // events are left
);

  logic      rx_valid;
  logic      rx_room;
  rx_event_t rx;
  sync_fifo #(
    .Width($bits(rx_event_t)),
    .Depth(RxDepth)
  ) u_rx (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(rx_valid_i),
    .in_ready_o(rx_room),
    .in_data_i(rx_i),
    .out_valid_o(rx_valid),
    .out_ready_i(1'b1),
    .out_data_o(rx),
    .count_o()
  );

  // The source after the last one goes first. The choice is made anew each cycle, because a reset
  // may withdraw a request.
  localparam int unsigned SrcW = $clog2(NumSources);
  logic [SrcW-1:0] idx;
  logic            any;
  logic [NumSources-1:0] gnt;
  rr_pick #(
    .N(NumSources)
  ) u_pick (
    .clk_i,
    .rst_ni,
    .req_i(valid_i),
    .take_i(!rx_valid),
    .valid_o(any),
    .gnt_o(gnt),
    .idx_o(idx)
  );
  assign ready_o = rx_valid ? '0 : gnt;

  trace_event_t now;
  always_comb begin
    now = event_i[idx];
    if (rx_valid) begin
      now      = '0;
      now.kind = rx.accepted ? TraceRxAccept : TraceRxDrop;
      now.code = rx.accepted ? rx.verdict : rx.reason;
      now.len  = 32'(rx.len);
      now.arg  = rx.number;
    end
  end

  trace_event_t out_q;
  logic         out_valid_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni) out_valid_q <= 1'b0;
    else out_valid_q <= rx_valid || any;
    out_q <= now;
  end
  assign trace_valid_o = out_valid_q;
  assign trace_o       = out_q;
  assign waiting_o     = rx_valid || any || out_valid_q;

  // Counters.
  logic [63:0] count_q [NumCounters];
  logic [63:0] add [NumCounters];
  always_comb begin
    for (int unsigned i = 0; i < NumCounters; i++) add[i] = '0;
    add[CtrCycles]    = 64'd1;
    add[CtrDmaErrors] = 64'(dma_error_i[0]) + 64'(dma_error_i[1]);
    if (out_valid_q) begin
      case (out_q.kind)
        TraceTxFrame: begin
          add[CtrTxFrames] = 64'd1;
          add[CtrTxBytes]  = 64'(out_q.len);
          add[CtrTxCsum]   = 64'(out_q.code[0]);
        end
        TraceTxDrop: add[CtrTxDropped] = 64'd1;
        TraceRxAccept: begin
          add[CtrRxCsumValid] = 64'(out_q.code == VerdictValid);
          add[CtrRxCsumBad]   = 64'(out_q.code == VerdictBad);
        end
        TraceRxDrop: begin
          case (out_q.code)
            DropFifoFull:                       add[CtrRxDroppedFifo] = 64'd1;
            DropNoBuffer, DropBufferTooShort:   add[CtrRxDroppedNoBuffer] = 64'd1;
            DropMacError, DropRunt, DropTooLong: add[CtrRxDroppedError] = 64'd1;
            DropFilter:                         add[CtrRxDroppedFilter] = 64'd1;
            default:                            add[CtrRxDroppedNotReady] = 64'd1;
          endcase
        end
        TraceRxPlace: begin
          add[CtrRxFrames] = 64'd1;
          add[CtrRxBytes]  = 64'(out_q.len) - 64'(hdr_len_i);
        end
        TraceIrq: add[CtrIrqs] = 64'd1;
        default: ;
      endcase
    end
  end

  always_ff @(posedge clk_i) begin
    for (int unsigned i = 0; i < NumCounters; i++) begin
      if (!rst_ni) count_q[i] <= '0;
      else if (add[i] != '0) count_q[i] <= count_q[i] + add[i];
    end
  end

  localparam int unsigned CtrW = $clog2(NumCounters);
  logic [31:0] latch_q;
  logic [63:0] word;
  logic        there;
  assign there = 32'(bus_addr_i[11:3]) < NumCounters;
  always_comb begin
    word = there ? count_q[CtrW'(bus_addr_i[11:3])] : '0;
    if (32'(bus_addr_i[11:3]) == CtrId) word = {CounterLayoutVersion, CounterId};
  end
  assign bus_rdata_o = bus_addr_i[2] ? (there ? latch_q : '0) : word[31:0];
  always_ff @(posedge clk_i) begin
    if (!rst_ni) latch_q <= '0;
    else if (bus_read_i && !bus_addr_i[2]) latch_q <= word[63:32];
  end

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni) assert (!rx_valid_i || rx_room);
  end

endmodule

`default_nettype wire
