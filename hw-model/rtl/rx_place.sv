// Receive, deciding half: which buffers a frame gets, and what is told about it afterwards.
//
//   meta + chains -> decide -> take chains -> plan  (to rx_write)
//                      |            \-> place fifo, record fifo
//                      \-> drop                     |
//   frame written (axi_write) --------------------> trace -> used elements
//
// A frame gets buffers only when those at hand suffice for all of it (virtio 1.3, 5.1.6.4): with
// MRG_RXBUF as many chains as it takes, else exactly one. When they do not suffice and no more
// can come without the driver (starved_i), it is dropped. Three cycles a frame and one more a
// chain after the first.

`default_nettype none

module rx_place
  import tandem_pkg::*;
  import tandem_stream_pkg::*;
  import tandem_nic_pkg::*;
#(
  parameter int unsigned QueueSizeMax = 256,
  parameter int unsigned FramesMax    = 32,
  parameter logic [7:0]  QueueIdx     = 8'd0
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic             ready_i,        // the queue takes frames
  input  wire logic             stop_i,         // decide nothing more
  input  wire logic             mrg_i,          // VIRTIO_NET_F_MRG_RXBUF
  input  wire logic             guest_csum_i,   // VIRTIO_NET_F_GUEST_CSUM
  input  wire logic [7:0]       hdr_len_i,

  input  wire logic             meta_valid_i,
  output logic                  meta_ready_o,
  input  wire rx_meta_t         meta_i,

  input  wire logic             chain_valid_i,
  output logic                  chain_ready_o,
  input  wire chain_t           chain_i,
  input  wire logic [47:0]      bytes_i,        // in the chains at hand
  input  wire logic             starved_i,

  output logic                  plan_valid_o,
  input  wire logic             plan_ready_i,
  output logic                  plan_drop_o,
  output logic [16:0]           plan_len_o,     // header and frame
  output logic [15:0]           plan_descs_o,   // descriptors of the chains taken
  output logic [95:0]           plan_hdr_o,     // virtio_net_hdr, its first 12 bytes

  input  wire logic             frame_done_i,
  input  wire logic             frame_err_i,

  output logic                  used_valid_o,
  input  wire logic             used_ready_i,
  output used_t                 used_o,

  output logic                  drop_trace_valid_o,
  input  wire logic             drop_trace_ready_i,
  output trace_event_t          drop_trace_o,
  output logic                  trace_valid_o,
  input  wire logic             trace_ready_i,
  output trace_event_t          trace_o,
  output logic                  broken_o,
  output logic                  moving_o
);

  typedef struct packed {
    ring_pos_t   pos;
    logic [31:0] number;
    logic [16:0] len;
    logic [15:0] chains;
  } record_t;

  typedef enum logic [1:0] {
    StDecide,
    StTake,
    StPlan,
    StDrop
  } state_e;
  state_e state_q, state_d;
  drop_e why_q, why_d;
  logic [16:0] left_q, left_d;  // bytes that have no buffer yet
  logic [15:0] chains_q, chains_d;
  logic [15:0] descs_q, descs_d;
  ring_pos_t pos_q, pos_d;

  logic [16:0] need;
  assign need = {1'b0, meta_i.len} + 17'(hdr_len_i);

  used_t   place_push;
  logic    place_push_valid;
  logic    place_ready;
  used_t   place;
  logic    place_valid;
  logic    place_pop;
  logic    record_ready;
  logic    record_push;
  record_t record;
  logic    record_valid;
  logic    record_pop;

  logic chain_last;
  assign chain_last = chain_i.len >= 32'(left_q);
  always_comb begin
    place_push = '{
        pos: chain_i.pos,
        id: chain_i.id,
        count: chain_i.count,
        len: chain_last ? 32'(left_q) : chain_i.len,
        first: chains_q == '0,
        last: chain_last
    };
  end

  always_comb begin
    state_d  = state_q;
    why_d    = why_q;
    left_d   = left_q;
    chains_d = chains_q;
    descs_d  = descs_q;
    pos_d    = pos_q;
    meta_ready_o       = 1'b0;
    chain_ready_o      = 1'b0;
    place_push_valid   = 1'b0;
    record_push        = 1'b0;

    unique case (state_q)
      StDecide: begin
        left_d   = need;
        chains_d = '0;
        descs_d  = '0;
        if (meta_valid_i && !stop_i) begin
          if (!ready_i) begin
            why_d   = DropNotReady;
            state_d = StDrop;
          end else if (mrg_i ? bytes_i >= 48'(need) : chain_valid_i && chain_i.len >= 32'(need))
          begin
            if (record_ready) state_d = StTake;
          end else if (!mrg_i && chain_valid_i) begin
            why_d   = DropBufferTooShort;
            state_d = StDrop;
          end else if (starved_i) begin
            why_d   = DropNoBuffer;
            state_d = StDrop;
          end
        end
      end

      StTake: begin
        if (place_ready) begin
          place_push_valid = 1'b1;
          chain_ready_o    = 1'b1;
          left_d   = left_q - 17'(chain_i.len);
          chains_d = chains_q + 16'd1;
          descs_d  = descs_q + chain_i.count;
          if (chains_q == '0) pos_d = chain_i.pos;
          if (chain_last) state_d = StPlan;
        end
      end

      StPlan: begin
        if (plan_ready_i) begin
          record_push  = 1'b1;
          meta_ready_o = 1'b1;
          state_d      = StDecide;
        end
      end

      StDrop: begin
        // The plan and its event leave together.
        if (plan_ready_i && drop_trace_ready_i) begin
          meta_ready_o = 1'b1;
          state_d      = StDecide;
        end
      end

      default: state_d = StDecide;
    endcase
  end

  always_comb begin
    drop_trace_o      = '0;
    drop_trace_o.qid  = QueueIdx;
    drop_trace_o.kind = TraceRxDrop;
    drop_trace_o.code = why_q;
    drop_trace_o.len  = 32'(meta_i.len);
    drop_trace_o.arg  = meta_i.number;
  end

  assign plan_drop_o        = state_q == StDrop;
  assign drop_trace_valid_o = state_q == StDrop && plan_ready_i;
  assign plan_valid_o       = state_q == StPlan || (state_q == StDrop && drop_trace_ready_i);
  assign plan_len_o   = need;
  assign plan_descs_o = descs_q;
  // virtio_net_hdr (virtio 1.3, 5.1.6): DATA_VALID is bit 1 of flags; num_buffers its last field, 1
  // without MRG_RXBUF (5.1.6.4.1); no segmentation.
  assign plan_hdr_o = {mrg_i ? chains_q : 16'd1, 80'd0}
                      | {94'd0, guest_csum_i && meta_i.verdict == VerdictValid, 1'b0};

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      state_q  <= StDecide;
      why_q    <= DropNoBuffer;
      left_q   <= '0;
      chains_q <= '0;
      descs_q  <= '0;
      pos_q    <= '0;
    end else begin
      state_q  <= state_d;
      why_q    <= why_d;
      left_q   <= left_d;
      chains_q <= chains_d;
      descs_q  <= descs_d;
      pos_q    <= pos_d;
    end
  end

  sync_fifo #(
    .Width($bits(used_t)),
    .Depth(QueueSizeMax)
  ) u_place (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(place_push_valid),
    .in_ready_o(place_ready),
    .in_data_i(place_push),
    .out_valid_o(place_valid),
    .out_ready_i(place_pop),
    .out_data_o(place),
    .count_o()
  );
  record_t record_in;
  assign record_in = '{pos: pos_q, number: meta_i.number, len: need, chains: chains_q};
  sync_fifo #(
    .Width($bits(record_t)),
    .Depth(FramesMax)
  ) u_record (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(record_push),
    .in_ready_o(record_ready),
    .in_data_i(record_in),
    .out_valid_o(record_valid),
    .out_ready_i(record_pop),
    .out_data_o(record),
    .count_o()
  );
  logic written_valid;
  logic written_err;
  logic written_room;
  sync_fifo #(
    .Width(1),
    .Depth(FramesMax)
  ) u_written (
    .clk_i,
    .rst_ni,
    .clear_i(1'b0),
    .in_valid_i(frame_done_i),
    .in_ready_o(written_room),
    .in_data_i(frame_err_i),
    .out_valid_o(written_valid),
    .out_ready_i(record_pop),
    .out_data_o(written_err),
    .count_o()
  );

  // Completion. After a bus error nothing of this queue is told any more.
  typedef enum logic [1:0] {
    CsEvent,
    CsUsed,
    CsDead
  } complete_e;
  complete_e complete_q, complete_d;
  always_comb begin
    complete_d    = complete_q;
    record_pop    = 1'b0;
    place_pop     = 1'b0;
    broken_o      = 1'b0;
    unique case (complete_q)
      CsEvent: begin
        if (trace_valid_o && trace_ready_i) begin
          broken_o   = written_err;
          complete_d = written_err ? CsDead : CsUsed;
        end
      end
      CsUsed: begin
        place_pop = used_ready_i;
        if (place_valid && used_ready_i && place.last) begin
          record_pop = 1'b1;
          complete_d = CsEvent;
        end
      end
      CsDead: begin
        place_pop  = 1'b1;
        record_pop = written_valid && record_valid;
      end
      default: complete_d = CsDead;
    endcase
  end
  assign trace_valid_o = complete_q == CsEvent && written_valid && record_valid;
  assign used_valid_o  = complete_q == CsUsed && place_valid;
  always_comb begin
    trace_o      = '0;
    trace_o.qid  = QueueIdx;
    trace_o.slot = record.pos.slot;
    trace_o.wrap = record.pos.wrap;
    if (written_err) begin
      trace_o.kind = TraceQueueBroken;
      trace_o.code = BrokenBusError;
    end else begin
      trace_o.kind = TraceRxPlace;
      trace_o.code = record.chains > 16'd255 ? 8'd255 : record.chains[7:0];
      trace_o.len  = 32'(record.len);
      trace_o.arg  = record.number;
    end
  end
  assign used_o = place;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) complete_q <= CsEvent;
    else complete_q <= complete_d;
  end

  assign moving_o = state_d != state_q || chain_ready_o || complete_d != complete_q || record_pop
                    || (place_valid && place_pop);

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni) begin
      assert (!chain_ready_o || chain_valid_i);
      assert (!record_push || record_ready);
      assert (!frame_done_i || written_room);
    end
  end

endmodule

`default_nettype wire
