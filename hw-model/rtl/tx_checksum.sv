// Transmit checksum insertion (virtio 1.3, 5.1.6.2): stores frames, sums them on the way in, writes
// the checksum on the way out. README.md states what, under "What the transmit side inserts".
//
//   in --> a: take --> b: offsets --> c: mask, --> stream_fifo (data) -----------> patch --> out
//                                     decide  \--> sync_fifo (info of a frame) ----^  \--> done
//                                              \-> csum_sum --> sync_fifo (sum) ---^
//
// Throughput one beat a cycle, frames back to back. Latency from a frame's last beat in to its
// first beat out 12 cycles; the frame is stored whole, so that out_valid_o stays up from its first
// beat to its last, as a MAC needs. A frame that is dropped leaves no beat but a done, in order
// with the rest.
//
// Assumes: keep is contiguous from lane 0 and full but at last; last with keep zero only with abort
// (a frame that breaks that is dropped as aborted). The taker of done_o is always ready: whoever
// hands in frames bounds how many are inside, FramesMax at the most.

`default_nettype none

module tx_checksum
  import tandem_pkg::*;
  import tandem_stream_pkg::*;
#(
  parameter int unsigned DataW       = 512,
  parameter int unsigned FrameLenMax = 9234,  // bytes; a longer frame is dropped
  parameter int unsigned FramesMax   = 32,    // frames inside at once
  localparam int unsigned Bytes      = DataW / 8
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,

  input  wire logic             in_valid_i,
  output logic                  in_ready_o,
  input  wire logic [DataW-1:0] in_data_i,
  input  wire logic [Bytes-1:0] in_keep_i,
  input  wire logic             in_last_i,
  input  wire logic             in_abort_i,   // at last: drop the frame; keep may then be zero
  input  wire csum_req_t        in_req_i,     // at the first beat

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [DataW-1:0]      out_data_o,
  output logic [Bytes-1:0]      out_keep_o,
  output logic                  out_last_o,

  output logic                  done_valid_o, // a pulse per frame, in order
  output tx_done_t              done_o,
  output logic                  busy_o        // not for a begun frame that waits for beats
);

  localparam int unsigned LaneW = $clog2(Bytes);
  localparam int unsigned IdxW = 16 - LaneW;  // number of a beat in its frame
  localparam int unsigned BeatsMax = (FrameLenMax + Bytes - 1) / Bytes;
  // Room for two of the longest frames: one goes out while the next comes in.
  localparam int unsigned Depth = (BeatsMax < 8) ? 16 : 2 ** $clog2(2 * BeatsMax);
  localparam int unsigned UsedW = $clog2(Depth) + 1;
  // Beats that may arrive between the moment the RAM's level is sampled and the moment it shows.
  localparam int unsigned Margin = 6;
  localparam int unsigned FramesW = $clog2(FramesMax + 1);

  if (FrameLenMax < 64 || FrameLenMax > 65535) begin : gen_len_check
    $error("tx_checksum: FrameLenMax must be 64 to 65535");
  end

  // Lanes 0 .. Bytes as a count.
  typedef logic [LaneW:0] lanes_t;
  localparam lanes_t LanesAll = lanes_t'(Bytes);

  // How many of this beat's lanes lie below byte `at` of the frame: at - off held to 0 .. Bytes.
  function automatic lanes_t lanes_below(logic [17:0] at, logic [16:0] off);
    logic [18:0] rel;
    rel = {1'b0, at} - {2'b0, off};
    if (rel[18]) return '0;
    if (rel[17:LaneW] != '0) return LanesAll;
    return {1'b0, rel[LaneW-1:0]};
  endfunction

  // a: a beat as it came, its offset, its frame's request.
  logic a_valid_q, a_first_q, a_last_q, a_abort_q;
  logic [DataW-1:0] a_data_q;
  logic [Bytes-1:0] a_keep_q;
  logic [16:0]      a_off_q;     // stops at 65,536 and more
  logic [31:0]      a_tag_q;
  logic             a_en_q;
  logic [15:0]      a_start_q;
  logic [17:0]      a_need_q;    // bytes that the frame must have for the field to be inside

  // b: everything relative to this beat.
  logic b_valid_q, b_first_q, b_last_q, b_abort_q;
  logic [DataW-1:0] b_data_q;
  logic [Bytes-1:0] b_keep_q;
  logic [16:0]      b_off_q;
  logic [31:0]      b_tag_q;
  logic             b_en_q;
  logic             b_odd_q;     // csum_start is
  logic [15:0]      b_need_q;    // its high bits no longer matter: such a frame is dropped
  lanes_t           b_count_q;   // bytes in this beat
  lanes_t           b_skip_q;    // lanes before csum_start
  lanes_t           b_room_q;    // lanes before FrameLenMax
  logic             b_short_q;   // need lies more than this beat's lanes away
  lanes_t           b_want_q;    // lanes before need

  // c: decided.
  typedef struct packed {
    logic [31:0]      tag;
    logic [15:0]      len;
    logic [15:0]      end_pos;    // position of the last byte
    logic [15:0]      field_pos;  // of the checksum field's first byte
    logic [15:0]      field_pos1; // of its second
    logic             insert;
    logic             dropped;
    logic             aborted;
    drop_e            reason;
  } info_t;

  logic c_valid_q, c_first_q, c_last_q, c_over_q;
  logic [DataW-1:0] c_data_q;
  logic [Bytes-1:0] c_mask_q;
  logic             c_swap_q;    // csum_start is odd: the sum's words are not csum_start's
  info_t            c_info_q;    // whole at last

  logic               in_frame_q;
  logic               space_q;
  logic [FramesW-1:0] frames_q;
  logic [UsedW-1:0]   ram_used;

  logic in_take;
  logic in_first;
  logic frame_out;

  assign in_ready_o = space_q && (frames_q != FramesW'(FramesMax));
  assign in_take    = in_valid_i && in_ready_o;
  assign in_first   = !in_frame_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      in_frame_q <= 1'b0;
      space_q    <= 1'b0;
      frames_q   <= '0;
      a_valid_q  <= 1'b0;
      b_valid_q  <= 1'b0;
      c_valid_q  <= 1'b0;
    end else begin
      if (in_take) in_frame_q <= !in_last_i;
      space_q   <= ram_used <= UsedW'(Depth - Margin);
      frames_q  <= frames_q + FramesW'(in_take && in_last_i) - FramesW'(frame_out);
      a_valid_q <= in_take;
      b_valid_q <= a_valid_q;
      c_valid_q <= b_valid_q;
    end
  end

  always_ff @(posedge clk_i) begin
    if (in_take) begin
      a_first_q <= in_first;
      a_last_q  <= in_last_i;
      a_abort_q <= in_abort_i;
      a_data_q  <= in_data_i;
      a_keep_q  <= in_keep_i;
      if (in_first) begin
        a_off_q   <= '0;
        a_tag_q   <= in_req_i.tag;
        a_en_q    <= in_req_i.csum_en;
        a_start_q <= in_req_i.csum_start;
        a_need_q  <= 18'(in_req_i.csum_start) + 18'(in_req_i.csum_offset) + 18'd2;
      end else if (!a_off_q[16]) begin
        a_off_q <= a_off_q + 17'(Bytes);
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (a_valid_q) begin
      b_first_q <= a_first_q;
      b_last_q  <= a_last_q;
      b_abort_q <= a_abort_q;
      b_data_q  <= a_data_q;
      b_keep_q  <= a_keep_q;
      b_off_q   <= a_off_q;
      b_tag_q   <= a_tag_q;
      b_en_q    <= a_en_q;
      b_odd_q   <= a_start_q[0];
      b_need_q  <= a_need_q[15:0];
      b_count_q <= lanes_t'($countones(a_keep_q));
      b_skip_q  <= lanes_below({2'b0, a_start_q}, a_off_q);
      b_room_q  <= lanes_below(18'(FrameLenMax), a_off_q);
      b_want_q  <= lanes_below(a_need_q, a_off_q);
      b_short_q <= a_need_q > 18'(a_off_q) + 18'(Bytes);
    end
  end

  logic        b_abort;
  logic        b_over;
  logic        b_bad;
  logic [16:0] b_len;
  assign b_abort = b_abort_q || (b_count_q == '0);
  assign b_over  = b_count_q > b_room_q;
  // A field outside the frame: there is no frame that the driver could have meant.
  assign b_bad   = b_en_q && (b_short_q || b_want_q > b_count_q);
  assign b_len   = b_off_q + 17'(b_count_q);

  always_ff @(posedge clk_i) begin
    if (b_valid_q) begin
      c_first_q           <= b_first_q;
      c_last_q            <= b_last_q;
      c_over_q            <= b_over;
      c_data_q            <= b_data_q;
      c_mask_q            <= b_keep_q & ({Bytes{1'b1}} << b_skip_q);
      c_info_q.tag        <= b_tag_q;
      c_info_q.len        <= b_len[16] ? '1 : b_len[15:0];
      c_info_q.end_pos    <= b_len[15:0] - 16'd1;
      c_info_q.field_pos  <= b_need_q - 16'd2;
      c_info_q.field_pos1 <= b_need_q - 16'd1;
      c_info_q.insert     <= b_en_q && !(b_over || b_bad || b_abort);
      c_swap_q            <= b_odd_q;
      c_info_q.dropped    <= b_over || b_bad || b_abort;
      c_info_q.aborted    <= b_abort;
      c_info_q.reason     <= b_over ? DropTooLong : DropBadRequest;
    end
  end

  // Storage of the data. Beats over the limit are not written, so that a frame of any length fits.
  logic             ram_valid;
  logic             ram_ready;
  logic [DataW-1:0] ram_data;
  logic             ram_full;
  logic             ram_empty;

  stream_fifo #(
    .Width(DataW),
    .Depth(Depth)
  ) u_ram (
    .clk_i,
    .rst_ni,
    .flush_i       (1'b0),
    .wr_valid_i    (c_valid_q && !c_over_q),
    .wr_data_i     (c_data_q),
    .wr_commit_i   (c_valid_q && c_last_q && !c_info_q.dropped),
    .wr_rollback_i (c_valid_q && c_last_q && c_info_q.dropped),
    .wr_full_o     (ram_full),
    .wr_used_o     (ram_used),
    .rd_valid_o    (ram_valid),
    .rd_ready_i    (ram_ready),
    .rd_data_o     (ram_data),
    .empty_o       (ram_empty)
  );

  // What is known of each frame, and its sum, which comes a few cycles later.
  logic               known;
  logic               head_take;
  logic               info_valid;
  logic               info_space;
  logic               sum_valid;
  logic               sum_space;
  logic               sum_done;
  logic [15:0]        sum;
  logic [15:0]        sum_out;
  logic [FramesW-1:0] info_count;
  logic [FramesW-1:0] sum_count;
  logic               swap_out;
  info_t              info_out;

  sync_fifo #(
    .Width(1 + $bits(info_t)),
    .Depth(FramesMax)
  ) u_info (
    .clk_i,
    .rst_ni,
    .clear_i     (1'b0),
    .in_valid_i  (c_valid_q && c_last_q),
    .in_ready_o  (info_space),
    .in_data_i   ({c_swap_q, c_info_q}),
    .out_valid_o (info_valid),
    .out_ready_i (head_take),
    .out_data_o  ({swap_out, info_out}),
    .count_o     (info_count)
  );

  csum_sum #(
    .DataW(DataW)
  ) u_sum (
    .clk_i,
    .rst_ni,
    .clear_i     (1'b0),
    .valid_i     (c_valid_q),
    .first_i     (c_first_q),
    .last_i      (c_last_q),
    .data_i      (c_data_q),
    .mask_i      (c_mask_q),
    .sum_valid_o (sum_done),
    .sum_o       (sum)
  );

  // The complement, and never zero: README.md says why for every protocol.
  sync_fifo #(
    .Width(16),
    .Depth(FramesMax)
  ) u_sums (
    .clk_i,
    .rst_ni,
    .clear_i     (1'b0),
    .in_valid_i  (sum_done),
    .in_ready_o  (sum_space),
    .in_data_i   (sum == 16'hFFFF ? 16'hFFFF : ~sum),
    .out_valid_o (sum_valid),
    .out_ready_i (head_take),
    .out_data_o  (sum_out),
    .count_o     (sum_count)
  );

  // The frame that is going out: both queues' heads in a register, so that their RAM is not in the
  // patch's way. The field takes the high byte first, the sum has csum_start's word order or the
  // other one.
  logic        head_q;
  info_t       info_q;
  logic [15:0] field_q;
  assign known     = info_valid && sum_valid;
  assign head_take = known && (!head_q || frame_out);

  always_ff @(posedge clk_i) begin
    if (!rst_ni) head_q <= 1'b0;
    else head_q <= head_take || (head_q && !frame_out);
  end
  always_ff @(posedge clk_i) begin
    if (head_take) begin
      info_q  <= info_out;
      field_q <= swap_out ? {sum_out[7:0], sum_out[15:8]} : sum_out;
    end
  end

  // Output: one register behind the patch.
  logic out_valid_q, out_last_q;
  logic [DataW-1:0] out_data_d, out_data_q;
  logic [Bytes-1:0] out_keep_q;
  logic [IdxW-1:0]  idx_q;       // of the beat that ram_data shows
  tx_done_t         sent_q;      // of the frame whose last beat is in the output register
  logic             done_valid_q;
  tx_done_t         done_q;

  logic     out_free;
  logic     beat_out;
  logic     beat_last;
  logic     drop_out;
  tx_done_t head_done;

  assign out_free  = !out_valid_q || out_ready_i;
  assign ram_ready = head_q && !info_q.dropped && out_free;
  assign beat_out  = ram_ready && ram_valid;
  assign beat_last = idx_q == info_q.end_pos[15:LaneW];
  // In order: not before the frame ahead has left the output register.
  assign drop_out  = head_q && info_q.dropped && !out_valid_q;
  assign frame_out = drop_out || (beat_out && beat_last);

  assign head_done = '{tag: info_q.tag, len: info_q.len, inserted: info_q.insert,
                       dropped: info_q.dropped, aborted: info_q.aborted, reason: info_q.reason};

  always_comb begin
    out_data_d = ram_data;
    if (info_q.insert && idx_q == info_q.field_pos[15:LaneW]) begin
      out_data_d[{info_q.field_pos[LaneW-1:0], 3'b0}+:8] = field_q[7:0];
    end
    if (info_q.insert && idx_q == info_q.field_pos1[15:LaneW]) begin
      out_data_d[{info_q.field_pos1[LaneW-1:0], 3'b0}+:8] = field_q[15:8];
    end
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      out_valid_q  <= 1'b0;
      idx_q        <= '0;
      done_valid_q <= 1'b0;
    end else begin
      if (out_free) out_valid_q <= beat_out;
      if (beat_out) idx_q <= beat_last ? '0 : idx_q + 1'b1;
      done_valid_q <= drop_out || (out_valid_q && out_ready_i && out_last_q);
    end
  end

  always_ff @(posedge clk_i) begin
    if (beat_out) begin
      out_data_q <= out_data_d;
      out_last_q <= beat_last;
      // end_pos's lane counts the lanes behind the first.
      out_keep_q <= beat_last ? {Bytes{1'b1}} >> ~info_q.end_pos[LaneW-1:0] : '1;
      sent_q     <= head_done;
    end
    done_q <= drop_out ? head_done : sent_q;
  end

  assign out_valid_o  = out_valid_q;
  assign out_data_o   = out_data_q;
  assign out_keep_o   = out_keep_q;
  assign out_last_o   = out_last_q;
  assign done_valid_o = done_valid_q;
  assign done_o       = done_q;
  assign busy_o       = a_valid_q || b_valid_q || c_valid_q || (frames_q != '0) || out_valid_q
                      || done_valid_q;

  // Properties.
  logic             past_stalled_q;
  logic             past_frame_q;   // a frame has begun at the output and not ended
  logic [DataW-1:0] past_data_q;
  logic [Bytes-1:0] past_keep_q;
  logic             past_last_q;
  always_ff @(posedge clk_i) begin
    past_stalled_q <= rst_ni && out_valid_o && !out_ready_i;
    past_data_q    <= out_data_o;
    past_keep_q    <= out_keep_o;
    past_last_q    <= out_last_o;
    if (!rst_ni) past_frame_q <= 1'b0;
    else if (out_valid_o && out_ready_i) past_frame_q <= !out_last_o;
    if (rst_ni) begin
      // Of the neighbours.
      if (in_valid_i && !in_last_i) assert (in_keep_i == '1);
      assert ((in_keep_i & (in_keep_i + 1'b1)) == '0 || !in_valid_i);
      // Of this block.
      assert (!(c_valid_q && !c_over_q && ram_full));
      assert (!(c_valid_q && c_last_q && !info_space));
      assert (!(sum_done && !sum_space));
      assert (sum_count <= info_count);
      assert (!past_frame_q || out_valid_o);
      assert (busy_o || ram_empty || in_frame_q);
      if (past_stalled_q) begin
        assert (out_valid_o);
        assert (out_data_o == past_data_q);
        assert (out_keep_o == past_keep_q);
        assert (out_last_o == past_last_q);
      end
    end
  end

endmodule

`default_nettype wire
