// Resets that drain: function-level reset, device_status 0, queue_reset.
//
//   request -> stop issue, event ResetStart -> all idle -> event ResetDone -> clear, answer
//
// One at a time: FLR before device before queues. What is to stop is stopped by level; "idle" of
// a queue means that none of its reads and writes is unanswered and, for transmit, no frame is
// half way to the MAC.

`default_nettype none

module nic_reset
  import tandem_pkg::*;
#(
  parameter int unsigned NumQueues = 2
) (
  input  wire logic                 clk_i,
  input  wire logic                 rst_ni,

  input  wire logic                 flr_req_i,      // held until flr_done_o, not longer
  output logic                      flr_done_o,
  input  wire logic                 dev_req_i,
  output logic                      dev_done_o,
  input  wire logic [NumQueues-1:0] queue_req_i,
  output logic [NumQueues-1:0]      queue_done_o,

  output logic                      stop_o,         // all of the function
  output logic [NumQueues-1:0]      stop_queue_o,
  input  wire logic                 idle_i,         // of what belongs to no queue
  input  wire logic [NumQueues-1:0] idle_queue_i,
  output logic [NumQueues-1:0]      mute_queue_o,   // from ResetDone on, nothing is told of it
  output logic                      clear_o,
  output logic [NumQueues-1:0]      clear_queue_o,

  output logic                      trace_valid_o,
  input  wire logic                 trace_ready_i,
  output trace_event_t              trace_o,
  output logic                      busy_o,
  output logic                      moving_o
);

  localparam int unsigned QueueW = $clog2(NumQueues);

  typedef enum logic [2:0] {
    StIdle,
    StStart,
    StDrain,
    StDone,
    StClear
  } state_e;
  state_e state_q, state_d;
  reset_e kind_q, kind_d;
  logic [QueueW-1:0] queue_q, queue_d;
  logic              whole;
  logic              idle;
  assign whole = kind_q != ResetQueue;

  always_comb begin
    idle = idle_queue_i[queue_q];
    if (whole) idle = idle_i && (&idle_queue_i);
  end

  always_comb begin
    state_d = state_q;
    kind_d  = kind_q;
    queue_d = queue_q;
    clear_o       = 1'b0;
    unique case (state_q)
      StIdle: begin
        queue_d = '0;
        if (flr_req_i) begin
          kind_d  = ResetFlr;
          state_d = StStart;
        end else if (dev_req_i) begin
          kind_d  = ResetDevice;
          state_d = StStart;
        end else if (queue_req_i != '0) begin
          kind_d  = ResetQueue;
          state_d = StStart;
          for (int unsigned q = NumQueues; q > 0; q--) begin
            if (queue_req_i[q-1]) queue_d = QueueW'(q - 1);
          end
        end
      end
      StStart: begin
        if (trace_ready_i) state_d = StDrain;
      end
      StDrain: if (idle) state_d = StDone;
      StDone: begin
        if (trace_ready_i) state_d = StClear;
      end
      StClear: begin
        clear_o = whole;
        // A request that is up in the next cycle is a new one.
        state_d = StIdle;
      end
      default: state_d = StIdle;
    endcase
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q <= StIdle;
      kind_q  <= ResetFlr;
      queue_q <= '0;
    end else begin
      state_q <= state_d;
      kind_q  <= kind_d;
      queue_q <= queue_d;
    end
  end

  logic under_way;
  assign under_way = state_q inside {StStart, StDrain, StDone, StClear};
  assign stop_o    = under_way && whole;
  always_comb begin
    for (int unsigned q = 0; q < NumQueues; q++) begin
      stop_queue_o[q]  = under_way && (whole || queue_q == QueueW'(q));
      mute_queue_o[q]  = state_q inside {StDone, StClear} && (whole || queue_q == QueueW'(q));
      clear_queue_o[q] = state_q == StClear && (whole || queue_q == QueueW'(q));
      queue_done_o[q]  = state_q == StClear && !whole && queue_q == QueueW'(q);
    end
  end
  assign flr_done_o = state_q == StClear && kind_q == ResetFlr;
  assign dev_done_o = state_q == StClear && kind_q == ResetDevice;

  assign trace_valid_o = state_q inside {StStart, StDone};
  always_comb begin
    trace_o      = '0;
    trace_o.kind = state_q == StStart ? TraceResetStart : TraceResetDone;
    trace_o.code = kind_q;
    trace_o.qid  = 8'(queue_q);
  end

  assign busy_o   = under_way || (state_q == StIdle && flr_req_i);
  assign moving_o = state_d != state_q;

endmodule

`default_nettype wire
