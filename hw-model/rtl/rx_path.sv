// Receive path: takes what the MAC hands over without ever stalling it, decides on each frame, and
// stores those that are accepted. README.md has the rules, "What the receive side judges".
//
//   mac --> p0: take, --> p1: offset, --> p2: length, --> stream_fifo ----------------> beats out
//               number        filter          decide  \--> decisions --> event
//                             \--> rx_checksum (10) --------^        \--> meta out
//
// Frames are accepted or dropped whole. Throughput one beat a cycle both ways; latency from a
// frame's last beat in to its meta 13 cycles. A frame's beats are shown no earlier than its meta.
//
// flush_i (a level, at least one cycle) empties everything at once, frames under way included: the
// frame at the MAC is cut, what is still to come of it is discarded, and so are frames that begin
// while it is up. None of them has an event; each has a number. Streams out may lose valid in
// mid-frame then, and only then.
// Assumes: the MAC's keep is contiguous from lane 0 and full but at last. event_o has no ready.

`default_nettype none

module rx_path
  import tandem_pkg::*;
  import tandem_stream_pkg::*;
#(
  parameter int unsigned DataW       = 512,
  parameter int unsigned FrameLenMax = 9234,   // bytes; a longer frame is dropped
  parameter int unsigned FifoBytes   = 32768,  // a power of two, at least FrameLenMax
  parameter int unsigned FramesMax   = 128,    // frames in the FIFO at once
  localparam int unsigned Bytes      = DataW / 8
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,

  input  wire logic             flush_i,       // level: everything inside is cut, see above
  input  wire logic             accept_i,      // low: frames are dropped as DropNotReady
  input  wire logic [47:0]      mac_i,         // station address, first byte on the wire highest

  input  wire logic             mac_valid_i,
  input  wire logic [DataW-1:0] mac_data_i,
  input  wire logic [Bytes-1:0] mac_keep_i,
  input  wire logic             mac_last_i,
  input  wire logic             mac_error_i,   // at last: the frame is damaged

  output logic                  meta_valid_o,  // one per frame, no later than its beats
  input  wire logic             meta_ready_i,
  output rx_meta_t              meta_o,

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [DataW-1:0]      out_data_o,
  output logic [Bytes-1:0]      out_keep_o,
  output logic                  out_last_o,

  output logic                  event_valid_o, // a pulse per frame, by number, no later than meta
  output rx_event_t             event_o,
  output logic                  busy_o         // beats are under way that have not reached the FIFO
);

  localparam int unsigned LaneW = $clog2(Bytes);
  localparam int unsigned IdxW = 16 - LaneW;
  localparam int unsigned Depth = FifoBytes / Bytes;
  localparam int unsigned FramesW = $clog2(FramesMax + 1);
  localparam int unsigned EthLen = 14;
  // Frames between p2 and the verdict: at most one a cycle of rx_checksum's latency.
  localparam int unsigned Pending = 16;

  typedef logic [LaneW:0] lanes_t;

  if (FrameLenMax < 64 || FrameLenMax > 65535) begin : gen_len_check
    $error("rx_path: FrameLenMax must be 64 to 65535");
  end
  // Below that, slots run out before the verdicts of one-beat frames at line rate are there.
  if (FramesMax < 16) begin : gen_frames_check
    $error("rx_path: FramesMax must be at least 16");
  end
  if (FifoBytes < FrameLenMax) begin : gen_fifo_check
    $error("rx_path: FifoBytes must hold the longest frame");
  end

  // p0: what came, unless it is cut.
  logic in_frame_d, in_frame_q;
  logic             cut_q;
  logic             take;
  logic [31:0]      number_q;     // of the next frame to begin
  logic p0_valid_q, p0_first_q, p0_last_q, p0_error_q;
  logic [DataW-1:0] p0_data_q;
  logic [Bytes-1:0] p0_keep_q;
  logic [31:0]      p0_number_q;

  assign in_frame_d = mac_valid_i ? !mac_last_i : in_frame_q;
  assign take       = mac_valid_i && !flush_i && !cut_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      in_frame_q <= 1'b0;
      cut_q      <= 1'b0;
      number_q   <= '0;
      p0_valid_q <= 1'b0;
    end else begin
      in_frame_q <= in_frame_d;
      cut_q      <= (cut_q || flush_i) && in_frame_d;
      if (mac_valid_i && !in_frame_q) number_q <= number_q + 32'd1;
      p0_valid_q <= take;
    end
  end

  always_ff @(posedge clk_i) begin
    if (mac_valid_i) begin
      p0_first_q <= !in_frame_q;
      p0_last_q  <= mac_last_i;
      p0_error_q <= mac_error_i;
      p0_data_q  <= mac_data_i;
      p0_keep_q  <= mac_keep_i;
      if (!in_frame_q) p0_number_q <= number_q;
    end
  end

  // p1: position, number of bytes, destination.
  logic p1_valid_q, p1_first_q, p1_last_q, p1_error_q, p1_pass_q;
  logic [DataW-1:0] p1_data_q;
  logic [16:0]      p1_off_q;      // stops at 65,536 and more
  lanes_t           p1_count_q;
  logic [31:0]      p1_number_q;
  logic [47:0]      p0_dst;
  assign p0_dst = {
    p0_data_q[7:0],
    p0_data_q[15:8],
    p0_data_q[23:16],
    p0_data_q[31:24],
    p0_data_q[39:32],
    p0_data_q[47:40]
  };

  always_ff @(posedge clk_i) begin
    if (p0_valid_q) begin
      p1_first_q  <= p0_first_q;
      p1_last_q   <= p0_last_q;
      p1_error_q  <= p0_error_q;
      p1_data_q   <= p0_data_q;
      p1_number_q <= p0_number_q;
      p1_count_q  <= lanes_t'($countones(p0_keep_q));
      if (p0_first_q) begin
        p1_off_q  <= '0;
        // Bit 0 of the first byte: group address, broadcast among them.
        p1_pass_q <= p0_data_q[0] || p0_dst == mac_i;
      end else if (!p1_off_q[16]) begin
        p1_off_q <= p1_off_q + 17'(Bytes);
      end
    end
  end

  // p2: length, and the decision at last.
  logic p2_valid_q, p2_first_q, p2_last_q, p2_error_q, p2_pass_q;
  logic [DataW-1:0] p2_data_q;
  logic [16:0]      p2_len_q;      // bytes up to and with this beat
  logic [31:0]      p2_number_q;

  always_ff @(posedge clk_i) begin
    if (p1_valid_q) begin
      p2_first_q  <= p1_first_q;
      p2_last_q   <= p1_last_q;
      p2_error_q  <= p1_error_q;
      p2_pass_q   <= p1_pass_q;
      p2_data_q   <= p1_data_q;
      p2_len_q    <= p1_off_q + 17'(p1_count_q);
      p2_number_q <= p1_number_q;
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni || flush_i) begin
      p1_valid_q <= 1'b0;
      p2_valid_q <= 1'b0;
    end else begin
      p1_valid_q <= p0_valid_q;
      p2_valid_q <= p1_valid_q;
    end
  end

  logic               ram_full;
  logic               over;
  logic lost_d, lost_q;  // a beat of this frame found the FIFO full
  logic               slot;                // there is one for this frame
  logic               drop;
  logic               decide;
  logic               commit;
  drop_e              reason;
  logic [FramesW-1:0] metas_q, lens_q;  // frames decided whose meta, whose beats are not taken
  logic meta_taken, frame_taken;

  assign over   = p2_len_q > 17'(FrameLenMax);
  assign lost_d = (p2_first_q ? 1'b0 : lost_q) || ram_full;
  assign slot   = metas_q != FramesW'(FramesMax) && lens_q != FramesW'(FramesMax);
  assign decide = p2_valid_q && p2_last_q;
  assign commit = decide && !drop;

  always_comb begin
    drop   = 1'b1;
    reason = DropFifoFull;
    if (p2_error_q) reason = DropMacError;
    else if (over) reason = DropTooLong;
    else if (p2_len_q < 17'(EthLen)) reason = DropRunt;
    else if (!p2_pass_q) reason = DropFilter;
    else if (!accept_i) reason = DropNotReady;
    else if (lost_d || !slot) reason = DropFifoFull;
    else drop = 1'b0;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni || flush_i) begin
      lost_q  <= 1'b0;
      metas_q <= '0;
      lens_q  <= '0;
    end else begin
      if (p2_valid_q) lost_q <= lost_d;
      metas_q <= metas_q + FramesW'(commit) - FramesW'(meta_taken);
      lens_q  <= lens_q + FramesW'(commit) - FramesW'(frame_taken);
    end
  end

  logic                   ram_valid;
  logic                   ram_ready;
  logic                   ram_empty;
  logic [$clog2(Depth):0] ram_used;

  stream_fifo #(
    .Width(DataW),
    .Depth(Depth)
  ) u_ram (
    .clk_i,
    .rst_ni,
    .flush_i,
    .wr_valid_i    (p2_valid_q && !over && !lost_d),
    .wr_data_i     (p2_data_q),
    .wr_commit_i   (commit),
    .wr_rollback_i (decide && drop),
    .wr_full_o     (ram_full),
    .wr_used_o     (ram_used),
    .rd_valid_o    (ram_valid),
    .rd_ready_i    (ram_ready),
    .rd_data_o     (out_data_o),
    .empty_o       (ram_empty)
  );

  // Decisions wait for their verdicts; verdicts come for every frame, in order.
  typedef struct packed {
    logic [31:0] number;
    logic [15:0] len;
    logic        accepted;
    drop_e       reason;
  } decision_t;

  logic      verdict_valid;
  logic      sum_busy;
  verdict_e  verdict;
  logic      decision_valid;
  logic      decision_space;
  decision_t decision;
  logic [$clog2(Pending+1)-1:0] decision_count;

  rx_checksum #(
    .DataW(DataW)
  ) u_checksum (
    .clk_i,
    .rst_ni,
    .clear_i         (flush_i),
    .valid_i         (p1_valid_q),
    .first_i         (p1_first_q),
    .last_i          (p1_last_q),
    .data_i          (p1_data_q),
    .off_i           (p1_off_q),
    .count_i         (p1_count_q),
    .verdict_valid_o (verdict_valid),
    .verdict_o       (verdict),
    .busy_o          (sum_busy)
  );

  sync_fifo #(
    .Width($bits(decision_t)),
    .Depth(Pending)
  ) u_decisions (
    .clk_i,
    .rst_ni,
    .clear_i     (flush_i),
    .in_valid_i  (decide),
    .in_ready_o  (decision_space),
    .in_data_i   ({p2_number_q, p2_len_q[16] ? 16'hFFFF : p2_len_q[15:0], !drop, reason}),
    .out_valid_o (decision_valid),
    .out_ready_i (verdict_valid),
    .out_data_o  (decision),
    .count_o     (decision_count)
  );

  logic accepted;
  logic metas_space, lens_space;
  logic        len_valid;
  logic [15:0] len;
  logic [FramesW-1:0] metas_count, lens_count;
  assign accepted = verdict_valid && decision.accepted && !flush_i;

  sync_fifo #(
    .Width($bits(rx_meta_t)),
    .Depth(FramesMax)
  ) u_metas (
    .clk_i,
    .rst_ni,
    .clear_i     (flush_i),
    .in_valid_i  (accepted),
    .in_ready_o  (metas_space),
    .in_data_i   ({decision.number, verdict, decision.len}),
    .out_valid_o (meta_valid_o),
    .out_ready_i (meta_ready_i),
    .out_data_o  (meta_o),
    .count_o     (metas_count)
  );

  // The length once more, for the beats: they and the meta are taken at different times.
  sync_fifo #(
    .Width(16),
    .Depth(FramesMax)
  ) u_lens (
    .clk_i,
    .rst_ni,
    .clear_i     (flush_i),
    .in_valid_i  (accepted),
    .in_ready_o  (lens_space),
    .in_data_i   (decision.len - 16'd1),
    .out_valid_o (len_valid),
    .out_ready_i (frame_taken),
    .out_data_o  (len),
    .count_o     (lens_count)
  );

  logic [IdxW-1:0] idx_q;  // of the beat that is shown
  assign out_valid_o = ram_valid && len_valid;
  assign ram_ready   = out_ready_i && len_valid;
  assign out_last_o  = idx_q == len[15:LaneW];
  assign out_keep_o  = out_last_o ? {Bytes{1'b1}} >> ~len[LaneW-1:0] : '1;
  assign meta_taken  = meta_valid_o && meta_ready_i;
  assign frame_taken = out_valid_o && out_ready_i && out_last_o;

  always_ff @(posedge clk_i) begin
    if (!rst_ni || flush_i) idx_q <= '0;
    else if (out_valid_o && out_ready_i) idx_q <= out_last_o ? '0 : idx_q + 1'b1;
  end

  logic      event_valid_q;
  rx_event_t event_q;
  always_ff @(posedge clk_i) begin
    if (!rst_ni || flush_i) event_valid_q <= 1'b0;
    else event_valid_q <= verdict_valid;
  end
  always_ff @(posedge clk_i) begin
    if (verdict_valid) begin
      event_q <= '{
          number: decision.number,
          len: decision.len,
          accepted: decision.accepted,
          verdict: verdict,
          reason: decision.reason
      };
    end
  end

  assign event_valid_o = event_valid_q;
  assign event_o       = event_q;
  assign busy_o        = p0_valid_q || p1_valid_q || p2_valid_q || sum_busy || event_valid_q;

  // Properties.
  logic             past_stalled_q;
  logic [DataW-1:0] past_data_q;
  logic             past_last_q;
  always_ff @(posedge clk_i) begin
    past_stalled_q <= rst_ni && !flush_i && out_valid_o && !out_ready_i;
    past_data_q    <= out_data_o;
    past_last_q    <= out_last_o;
    if (rst_ni) begin
      // Of the MAC.
      if (mac_valid_i && !mac_last_i) assert (mac_keep_i == '1);
      assert (!mac_valid_i || (mac_keep_i & (mac_keep_i + 1'b1)) == '0);
      // Of this block.
      if (!flush_i) begin
        assert (!verdict_valid || decision_valid);
        assert (!decide || decision_space);
        assert (!accepted || (metas_space && lens_space));
        assert (metas_count <= metas_q && lens_count <= lens_q);
        assert (32'(decision_count) <= Pending);
        assert (32'(ram_used) <= Depth);
        assert (!ram_empty || !out_valid_o);
      end
      if (past_stalled_q) begin
        assert (out_valid_o);
        assert (out_data_o == past_data_q);
        assert (out_last_o == past_last_q);
      end
    end
  end

endmodule

`default_nettype wire
