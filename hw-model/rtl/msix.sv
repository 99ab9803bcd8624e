// MSI-X: table, pending bits and messages (PCI 3.0, 6.8.2), and the ISR status byte (virtio 1.3,
// 4.1.4.5).
//
//   cause[n] --> MSI-X on: pending bit of its vector --> not masked: one ordered write --> event
//            \-> MSI-X off: bit of ISR
//
// A cause is a queue or, the last one, the device configuration. Causes never wait: what asks for
// a vector that is already pending merges with it. One message is in flight. A configuration
// change also shows in ISR when MSI-X is on (4.1.4.5.1). The bus port answers in the cycle of the
// request.

`default_nettype none

module msix
  import tandem_pkg::*;
  import tandem_nic_pkg::*;
#(
  parameter int unsigned MsixVectors = 3,
  parameter int unsigned NumQueues   = 2,
  localparam int unsigned NumCauses  = NumQueues + 1
) (
  input  wire logic                 clk_i,
  input  wire logic                 rst_ni,
  input  wire logic                 clear_i,        // device reset: the table stays
  input  wire logic                 en_i,
  input  wire logic                 mask_i,

  input  wire logic [NumCauses-1:0] cause_i,        // pulses
  input  wire logic [15:0]          vector_i [NumCauses],

  input  wire logic                 bus_write_i,    // a write to the table
  input  wire logic [11:2]          bus_addr_i,
  input  wire logic [31:0]          bus_wdata_i,
  input  wire logic [3:0]           bus_be_i,
  output logic [31:0]               table_rdata_o,
  output logic [31:0]               pba_rdata_o,

  input  wire logic                 isr_read_i,
  output logic [1:0]                isr_o,

  output logic                      wr_valid_o,
  input  wire logic                 wr_ready_i,
  output small_write_t              wr_o,
  input  wire logic                 wr_done_i,

  output logic                      trace_valid_o,
  input  wire logic                 trace_ready_i,
  output trace_event_t              trace_o,
  output logic                      outstanding_o,
  output logic                      moving_o
);

  localparam int unsigned VecW = (MsixVectors > 1) ? $clog2(MsixVectors) : 1;
  localparam int unsigned CauseW = $clog2(NumCauses);
  if (MsixVectors < 1 || MsixVectors > 64) begin : gen_vectors_check
    $error("msix: 1 to 64 vectors");
  end

  logic [31:0]            table_q [MsixVectors][4];   // address low, high, data, control
  logic [MsixVectors-1:0] masked;
  logic [MsixVectors-1:0] pending_q;
  logic [CauseW-1:0]      cause_q [MsixVectors];      // the last that asked
  logic [1:0]             isr_q;

  always_comb begin
    for (int unsigned v = 0; v < MsixVectors; v++) masked[v] = table_q[v][3][0] || mask_i;
  end

  // Table.
  logic [7:0] entry;
  assign entry         = bus_addr_i[11:4];
  assign table_rdata_o = 32'(entry) < MsixVectors ? table_q[entry[VecW-1:0]][bus_addr_i[3:2]] : '0;
  logic [63:0] pba;
  assign pba         = 64'(pending_q);
  assign pba_rdata_o = bus_addr_i[11:3] != '0 ? '0 : (bus_addr_i[2] ? pba[63:32] : pba[31:0]);
  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      for (int unsigned v = 0; v < MsixVectors; v++) begin
        table_q[v][0] <= '0;
        table_q[v][1] <= '0;
        table_q[v][2] <= '0;
        table_q[v][3] <= 32'd1;     // masked after reset
      end
    end else if (bus_write_i && 32'(entry) < MsixVectors) begin
      for (int unsigned b = 0; b < 4; b++) begin
        if (bus_be_i[b]) begin
          // Bits 1:0 of an address and all but bit 0 of the control are fixed at zero.
          unique case (bus_addr_i[3:2])
            2'd0: table_q[entry[VecW-1:0]][0][8*b +: 8] <=
                    bus_wdata_i[8*b +: 8] & (b == 0 ? 8'hfc : 8'hff);
            2'd1: table_q[entry[VecW-1:0]][1][8*b +: 8] <= bus_wdata_i[8*b +: 8];
            2'd2: table_q[entry[VecW-1:0]][2][8*b +: 8] <= bus_wdata_i[8*b +: 8];
            default: if (b == 0) table_q[entry[VecW-1:0]][3][0] <= bus_wdata_i[0];
          endcase
        end
      end
    end
  end

  // The message to send next: the lowest pending vector that is not masked.
  typedef enum logic [1:0] {
    StIdle,
    StSend,
    StWait,
    StEvent
  } state_e;
  state_e state_q, state_d;
  logic [VecW-1:0] vec_q, vec_d;
  logic [CauseW-1:0] sent_cause_q, sent_cause_d;
  small_write_t wr_q, wr_d;
  logic              start;
  logic [MsixVectors-1:0] sendable;
  logic [VecW-1:0]   lowest;
  assign sendable = pending_q & ~masked;
  always_comb begin
    lowest = '0;
    for (int unsigned v = MsixVectors; v > 0; v--) if (sendable[v-1]) lowest = VecW'(v - 1);
  end

  always_comb begin
    state_d      = state_q;
    vec_d        = vec_q;
    sent_cause_d = sent_cause_q;
    wr_d         = wr_q;
    start        = 1'b0;
    unique case (state_q)
      StIdle: begin
        if (en_i && sendable != '0 && !clear_i) begin
          start        = 1'b1;
          vec_d        = lowest;
          sent_cause_d = cause_q[lowest];
          wr_d         = '{addr: {table_q[lowest][1], table_q[lowest][0]}, wide: 1'b0,
                           data: {2{table_q[lowest][2]}}};
          state_d      = StSend;
        end
      end
      StSend:  if (wr_ready_i) state_d = StWait;
      StWait:  if (wr_done_i) state_d = StEvent;
      StEvent: if (trace_ready_i) state_d = StIdle;
      default: state_d = StIdle;
    endcase
    if (clear_i) state_d = StIdle;
  end

  assign wr_valid_o    = state_q == StSend;
  assign wr_o          = wr_q;
  assign trace_valid_o = state_q == StEvent;
  always_comb begin
    trace_o      = '0;
    trace_o.kind = TraceIrq;
    trace_o.code = 8'(sent_cause_q == CauseW'(NumQueues));
    trace_o.qid  = sent_cause_q == CauseW'(NumQueues) ? 8'd0 : 8'(sent_cause_q);
    trace_o.arg  = 32'(vec_q);
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q      <= StIdle;
      vec_q        <= '0;
      sent_cause_q <= '0;
      wr_q         <= '0;
      pending_q    <= '0;
      isr_q        <= '0;
      for (int unsigned v = 0; v < MsixVectors; v++) cause_q[v] <= '0;
    end else begin
      state_q      <= state_d;
      vec_q        <= vec_d;
      sent_cause_q <= sent_cause_d;
      wr_q         <= wr_d;
      if (isr_read_i) isr_q <= '0;
      if (start) pending_q[lowest] <= 1'b0;
      for (int unsigned c = 0; c < NumCauses; c++) begin
        if (cause_i[c]) begin
          if (en_i) begin
            if (32'(vector_i[c]) < MsixVectors) begin
              pending_q[vector_i[c][VecW-1:0]] <= 1'b1;
              cause_q[vector_i[c][VecW-1:0]]   <= CauseW'(c);
            end
          end else if (c < NumQueues) begin
            isr_q[0] <= 1'b1;
          end
          if (c == NumQueues) isr_q[1] <= 1'b1;
        end
      end
      if (clear_i) begin
        pending_q <= '0;
        isr_q     <= '0;
      end
    end
  end

  assign isr_o         = isr_q;
  assign outstanding_o = state_q == StWait || state_q == StEvent;
  assign moving_o      = state_d != state_q;

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni) assert (!clear_i || state_q != StWait);
  end

endmodule

`default_nettype wire
