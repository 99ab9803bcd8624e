// Judges a received frame's transport checksum while its beats pass. The rules are in README.md,
// "What the receive side judges"; the comments here name them by number.
//
//   beats --> s1: Ethernet, --> s2: IP header --> s3: positions --> s4: masks, --> 2 x csum_sum
//             tags, rule 1      rules 2 to 4      as lanes          rules 5, 6         |
//                                                               verdict (2, 7) <-------'
//
// Each stage holds what is known of the frame as of the beat in its register, so that a header may
// lie in one beat or over many. Latency 10 cycles from the last beat to verdict_valid_o, throughput
// one beat a cycle, frames back to back, nothing ever stalls.
// Assumes: off_i is the position of the beat's first byte (0 at first), count_i its bytes. Bytes
// beyond count_i may be anything: rule 5 refuses every frame whose headers are not whole.
// clear_i forgets what is under way.

`default_nettype none

module rx_checksum
  import tandem_pkg::*;
#(
  parameter int unsigned DataW  = 512,
  localparam int unsigned Bytes = DataW / 8,
  localparam int unsigned LaneW = $clog2(Bytes)
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic             clear_i,

  input  wire logic             valid_i,
  input  wire logic             first_i,
  input  wire logic             last_i,
  input  wire logic [DataW-1:0] data_i,
  input  wire logic [16:0]      off_i,
  input  wire logic [LaneW:0]   count_i,

  output logic                  verdict_valid_o,  // a pulse per frame
  output verdict_e              verdict_o,
  output logic                  busy_o
);

  // Everything that stands at a constant place stands in the first 128 bytes: two tags and an IPv6
  // header end at 62, two tags and the longest IPv4 header at 82.
  localparam int unsigned HeadW = 7;

  localparam logic [15:0] TypeIpv4 = 16'h0800;
  localparam logic [15:0] TypeIpv6 = 16'h86DD;
  localparam logic [15:0] TypeVlan = 16'h8100;  // IEEE 802.1Q customer tag
  localparam logic [15:0] TypeSVlan = 16'h88A8;  // IEEE 802.1Q service tag
  localparam logic [7:0] ProtoTcp = 8'd6;
  localparam logic [7:0] ProtoUdp = 8'd17;

  typedef logic [LaneW:0] lanes_t;
  localparam lanes_t LanesAll = lanes_t'(Bytes);

  // A beat on its way, without its data.
  typedef struct packed {
    logic        first;
    logic        last;
    logic [16:0] off;
    lanes_t      count;
  } beat_t;

  // Whether byte `at` (a constant) lies in the beat at `off`.
  function automatic logic holds(logic [16:0] off, int unsigned at);
    return (off >> LaneW) == 17'(at >> LaneW);
  endfunction

  // The big-endian word at byte `at` (even, constant) of the frame, when the beat holds it.
  function automatic logic [15:0] word(logic [DataW-1:0] data, int unsigned at);
    logic [15:0] raw;
    raw = data[8*(at%Bytes)+:16];
    return {raw[7:0], raw[15:8]};
  endfunction

  // How many lanes of the beat at `off` lie below byte `at`.
  function automatic lanes_t lanes_below(logic [17:0] at, logic [16:0] off);
    logic [18:0] rel;
    rel = {1'b0, at} - {2'b0, off};
    if (rel[18]) return '0;
    if (rel[17:LaneW] != '0) return LanesAll;
    return {1'b0, rel[LaneW-1:0]};
  endfunction

  // ---------------------------------------------------------------------------------------------
  // s1. Rule 1: up to two tags, then IPv4 or IPv6.
  typedef struct packed {
    logic       tag0;
    logic       tag1;
    logic [1:0] tags;   // l3 = 14 + 4 * tags
    logic       ip4;
    logic       ip6;
  } l2_t;

  logic             s1_valid_q;
  beat_t            s1_q;
  logic [DataW-1:0] s1_data_q;
  l2_t l2_d, l2_q;

  function automatic logic is_tag(logic [15:0] t);
    return t == TypeVlan || t == TypeSVlan;
  endfunction

  logic [15:0] type0, type1, type2;
  assign type0 = word(data_i, 12);
  assign type1 = word(data_i, 16);
  assign type2 = word(data_i, 20);

  always_comb begin
    l2_d = first_i ? '0 : l2_q;
    if (holds(off_i, 12)) begin
      l2_d.tag0 = is_tag(type0);
      l2_d.ip4  = type0 == TypeIpv4;
      l2_d.ip6  = type0 == TypeIpv6;
    end
    if (holds(off_i, 16) && l2_d.tag0) begin
      l2_d.tag1 = is_tag(type1);
      l2_d.tags = 2'd1;
      l2_d.ip4  = type1 == TypeIpv4;
      l2_d.ip6  = type1 == TypeIpv6;
    end
    if (holds(off_i, 20) && l2_d.tag1) begin
      l2_d.tags = 2'd2;
      l2_d.ip4  = type2 == TypeIpv4;
      l2_d.ip6  = type2 == TypeIpv6;
    end
  end

  always_ff @(posedge clk_i) begin
    if (valid_i) begin
      s1_q      <= '{first: first_i, last: last_i, off: off_i, count: count_i};
      s1_data_q <= data_i;
      l2_q      <= l2_d;
    end
  end

  // ---------------------------------------------------------------------------------------------
  // s2. Rules 2, 3, 4: the fields of the IP header.
  typedef struct packed {
    logic        version;   // is right, and the header long enough
    logic        fragment;
    logic        tcp;
    logic        udp;
    logic [6:0]  l3;
    logic [6:0]  l4;
    logic [16:0] last;      // `end` of the rules
  } l3_t;

  logic             s2_valid_q;
  beat_t            s2_q;
  logic [DataW-1:0] s2_data_q;
  logic s2_ip4_q, s2_ip6_q;
  logic [1:0] s2_tags_q;
  l3_t l3_d, l3_q;

  // Field k of the IP header, for each place where the header may begin.
  logic [6:0] l3_at;
  logic has0, has2, has4, has6, has8;
  logic [7:0] b0, b9;
  logic [15:0] w2, w4, w6;
  assign l3_at = 7'd14 + {3'b0, l2_q.tags, 2'b0};

  function automatic logic has(logic [16:0] off, logic [1:0] tags, int unsigned k);
    unique case (tags)
      2'd0:    return holds(off, 14 + k);
      2'd1:    return holds(off, 18 + k);
      default: return holds(off, 22 + k);
    endcase
  endfunction

  function automatic logic [15:0] field(logic [DataW-1:0] data, logic [1:0] tags, int unsigned k);
    unique case (tags)
      2'd0:    return word(data, 14 + k);
      2'd1:    return word(data, 18 + k);
      default: return word(data, 22 + k);
    endcase
  endfunction

  assign has0 = has(s1_q.off, l2_q.tags, 0);
  assign has2 = has(s1_q.off, l2_q.tags, 2);
  assign has4 = has(s1_q.off, l2_q.tags, 4);
  assign has6 = has(s1_q.off, l2_q.tags, 6);
  assign has8 = has(s1_q.off, l2_q.tags, 8);
  assign b0   = 8'(field(s1_data_q, l2_q.tags, 0) >> 8);
  assign w2   = field(s1_data_q, l2_q.tags, 2);
  assign w4   = field(s1_data_q, l2_q.tags, 4);
  assign w6   = field(s1_data_q, l2_q.tags, 6);
  assign b9   = 8'(field(s1_data_q, l2_q.tags, 8));

  always_comb begin
    l3_d    = s1_q.first ? '0 : l3_q;
    l3_d.l3 = l3_at;
    if (l2_q.ip4) begin
      if (has0) begin
        l3_d.version = b0[7:4] == 4'd4 && b0[3:0] >= 4'd5;   // RFC 791: at least five words
        l3_d.l4      = l3_at + {1'b0, b0[3:0], 2'b0};
      end
      if (has2) l3_d.last = 17'(w2) + 17'(l3_at);
      // MF or an offset (RFC 791); bit 15 is reserved and bit 14 is DF.
      if (has6) l3_d.fragment = w6[13:0] != '0;
      if (has8) begin
        l3_d.tcp = b9 == ProtoTcp;
        l3_d.udp = b9 == ProtoUdp;
      end
    end
    if (l2_q.ip6) begin
      if (has0) begin
        l3_d.version = b0[7:4] == 4'd6;
        l3_d.l4      = l3_at + 7'd40;
      end
      if (has4) l3_d.last = 17'(w4) + 17'(l3_at) + 17'd40;
      if (has6) begin
        l3_d.tcp = w6[15:8] == ProtoTcp;
        l3_d.udp = w6[15:8] == ProtoUdp;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (s1_valid_q) begin
      s2_q      <= s1_q;
      s2_data_q <= s1_data_q;
      s2_ip4_q  <= l2_q.ip4;
      s2_ip6_q  <= l2_q.ip6;
      s2_tags_q <= l2_q.tags;
      l3_q      <= l3_d;
    end
  end

  // ---------------------------------------------------------------------------------------------
  // s3. Positions relative to the beat.

  // Both addresses, as bytes of the first 128 (RFC 791: 12 to 19; RFC 8200: 8 to 39).
  function automatic logic [127:0] address_bytes(logic ip4, logic [1:0] tags);
    unique case ({
      ip4, tags
    })
      3'b1_00: return {120'b0, 8'hFF} << (14 + 12);
      3'b1_01: return {120'b0, 8'hFF} << (18 + 12);
      3'b1_10: return {120'b0, 8'hFF} << (22 + 12);
      3'b0_00: return {96'b0, 32'hFFFF_FFFF} << (14 + 8);
      3'b0_01: return {96'b0, 32'hFFFF_FFFF} << (18 + 8);
      default: return {96'b0, 32'hFFFF_FFFF} << (22 + 8);
    endcase
  endfunction

  logic             s3_valid_q;
  beat_t            s3_q;
  logic [DataW-1:0] s3_data_q;
  logic [Bytes-1:0] s3_addr_q;       // lanes of the addresses
  lanes_t           s3_l3_q;         // lanes before the IP header, the transport header, the end
  lanes_t           s3_l4_q;
  lanes_t           s3_end_q;
  logic             s3_has_len_q;    // the beat holds UDP's length field, in this word of it
  logic             s3_has_sum_q;    // the same of its checksum field
  logic [LaneW-2:0] s3_len_word_q;
  logic [LaneW-2:0] s3_sum_word_q;
  logic             s3_ip4_q;
  logic             s3_udp_q;
  logic             s3_judge_q;      // rules 1 to 4 hold, but for the header's checksum
  logic             s3_negative_q;   // end lies before l4
  logic [16:0]      s3_l4_len_q;
  logic [16:0]      s3_last_q;

  logic [127:0] addr_tab;
  logic [17:0]  l4_len;
  logic [6:0] len_at, sum_at;  // words of the frame
  assign addr_tab = address_bytes(s2_ip4_q, s2_tags_q);
  assign l4_len   = {1'b0, l3_q.last} - {11'b0, l3_q.l4};
  assign len_at   = {1'b0, l3_q.l4[6:1]} + 7'd2;
  assign sum_at   = {1'b0, l3_q.l4[6:1]} + 7'd3;

  always_ff @(posedge clk_i) begin
    if (s2_valid_q) begin
      s3_q      <= s2_q;
      s3_data_q <= s2_data_q;
      s3_addr_q <= '0;
      if (s2_q.off[16:HeadW] == '0 && (s2_ip4_q || s2_ip6_q)) begin
        s3_addr_q <= addr_tab[{s2_q.off[HeadW-1:LaneW], {LaneW{1'b0}}}+:Bytes];
      end
      s3_l3_q       <= lanes_below(18'(l3_q.l3), s2_q.off);
      s3_l4_q       <= lanes_below(18'(l3_q.l4), s2_q.off);
      s3_end_q      <= lanes_below(18'(l3_q.last), s2_q.off);
      s3_has_len_q  <= s2_q.off[16:LaneW] == (17 - LaneW)'(len_at[6:LaneW-1]);
      s3_has_sum_q  <= s2_q.off[16:LaneW] == (17 - LaneW)'(sum_at[6:LaneW-1]);
      s3_len_word_q <= len_at[LaneW-2:0];
      s3_sum_word_q <= sum_at[LaneW-2:0];
      s3_ip4_q      <= s2_ip4_q;
      s3_udp_q      <= l3_q.udp;
      s3_judge_q    <= (s2_ip4_q || s2_ip6_q) && l3_q.version && !l3_q.fragment
                    && (l3_q.tcp || l3_q.udp);
      s3_negative_q <= l4_len[17];
      s3_l4_len_q   <= l4_len[16:0];
      s3_last_q     <= l3_q.last;
    end
  end

  // ---------------------------------------------------------------------------------------------
  // s4. Masks of the two sums, rules 5 and 6.
  logic s4_valid_q;
  logic s4_first_q, s4_last_q;
  logic [DataW-1:0] s4_data_q;
  logic [Bytes-1:0] s4_mask_q;      // what the transport checksum covers
  logic [Bytes-1:0] s4_head_q;      // what the IPv4 header's covers
  logic             s4_ip4_q;
  logic             s4_judge_q;
  logic             s4_udp_q;
  logic [15:0]      s4_l4_len_q;
  logic udp_len_d, udp_len_q;  // UDP's length field is right
  logic udp_sum_d, udp_sum_q;  // UDP's checksum field is not zero
  logic [16:0]      frame_len;
  logic             lengths;

  function automatic logic [Bytes-1:0] from_lane(lanes_t lane);
    return {Bytes{1'b1}} << lane;
  endfunction

  always_comb begin
    udp_len_d = s3_q.first ? 1'b0 : udp_len_q;
    udp_sum_d = s3_q.first ? 1'b0 : udp_sum_q;
    if (s3_has_len_q) begin
      udp_len_d = {s3_data_q[{s3_len_word_q, 4'd0} +: 8], s3_data_q[{s3_len_word_q, 4'd8} +: 8]}
               == s3_l4_len_q[15:0];
    end
    if (s3_has_sum_q) udp_sum_d = s3_data_q[{s3_sum_word_q, 4'd0}+:16] != '0;
  end

  assign frame_len = s3_q.off + 17'(s3_q.count);
  assign lengths   = !s3_negative_q && s3_last_q <= frame_len
                  && s3_l4_len_q >= (s3_udp_q ? 17'd8 : 17'd20);

  always_ff @(posedge clk_i) begin
    if (s3_valid_q) begin
      s4_first_q  <= s3_q.first;
      s4_last_q   <= s3_q.last;
      s4_data_q   <= s3_data_q;
      s4_mask_q   <= (from_lane(s3_l4_q) & ~from_lane(s3_end_q)) | s3_addr_q;
      s4_head_q   <= from_lane(s3_l3_q) & ~from_lane(s3_l4_q);
      s4_ip4_q    <= s3_ip4_q;
      s4_judge_q  <= s3_judge_q && lengths && (!s3_udp_q || (udp_len_d && udp_sum_d));
      s4_udp_q    <= s3_udp_q;
      s4_l4_len_q <= s3_l4_len_q[15:0];
      udp_len_q   <= udp_len_d;
      udp_sum_q   <= udp_sum_d;
    end
  end

  // ---------------------------------------------------------------------------------------------
  // The sums, five cycles, and what goes with them.
  localparam int unsigned SumLatency = 5;

  typedef struct packed {
    logic        judge;
    logic        ip4;
    logic [15:0] pseudo;   // protocol + length, in the byte order of csum_sum
  } tail_t;

  logic head_done, sum_done;
  logic [15:0] head_sum, sum;
  logic [16:0] pseudo;
  tail_t       tail_q [SumLatency];
  logic [SumLatency-1:0] sum_busy_q;

  csum_sum #(
    .DataW(DataW)
  ) u_sum (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i     (s4_valid_q),
    .first_i     (s4_first_q),
    .last_i      (s4_last_q),
    .data_i      (s4_data_q),
    .mask_i      (s4_mask_q),
    .sum_valid_o (sum_done),
    .sum_o       (sum)
  );

  csum_sum #(
    .DataW(DataW)
  ) u_head (
    .clk_i,
    .rst_ni,
    .clear_i,
    .valid_i     (s4_valid_q),
    .first_i     (s4_first_q),
    .last_i      (s4_last_q),
    .data_i      (s4_data_q),
    .mask_i      (s4_head_q),
    .sum_valid_o (head_done),
    .sum_o       (head_sum)
  );

  assign pseudo = 17'({s4_l4_len_q[7:0], s4_l4_len_q[15:8]})
                + 17'({s4_udp_q ? ProtoUdp : ProtoTcp, 8'd0});

  always_ff @(posedge clk_i) begin
    tail_q[0] <= '{judge: s4_judge_q, ip4: s4_ip4_q, pseudo: pseudo[15:0] + 16'(pseudo[16])};
    for (int unsigned i = 1; i < SumLatency; i++) tail_q[i] <= tail_q[i-1];
  end

  // Rule 7: 0xFFFF, in both of the forms that a 17-bit sum of two folded sums can have.
  logic [16:0] total;
  logic        all_ones;
  logic        head_ok;
  logic        verdict_valid_q;
  verdict_e    verdict_q;
  assign total    = 17'(sum) + 17'(tail_q[SumLatency-1].pseudo);
  assign all_ones = total == 17'h0_FFFF || total == 17'h1_FFFE;
  assign head_ok  = !tail_q[SumLatency-1].ip4 || head_sum == 16'hFFFF;

  always_ff @(posedge clk_i) begin
    if (!tail_q[SumLatency-1].judge || !head_ok) verdict_q <= VerdictNotJudged;
    else verdict_q <= all_ones ? VerdictValid : VerdictBad;
  end

  always_ff @(posedge clk_i) begin
    if (!rst_ni || clear_i) begin
      s1_valid_q      <= 1'b0;
      s2_valid_q      <= 1'b0;
      s3_valid_q      <= 1'b0;
      s4_valid_q      <= 1'b0;
      sum_busy_q      <= '0;
      verdict_valid_q <= 1'b0;
    end else begin
      s1_valid_q      <= valid_i;
      s2_valid_q      <= s1_valid_q;
      s3_valid_q      <= s2_valid_q;
      s4_valid_q      <= s3_valid_q;
      sum_busy_q      <= {sum_busy_q[SumLatency-2:0], s4_valid_q};
      verdict_valid_q <= sum_done;
    end
  end

  assign verdict_valid_o = verdict_valid_q;
  assign verdict_o       = verdict_q;
  assign busy_o          = s1_valid_q || s2_valid_q || s3_valid_q || s4_valid_q
                         || (sum_busy_q != '0) || verdict_valid_q;

  // Properties.
  always_ff @(posedge clk_i) begin
    if (rst_ni && !clear_i) begin
      assert (sum_done == head_done);
      assert (!valid_i || !first_i || off_i == '0);
      assert (!valid_i || off_i[LaneW-1:0] == '0);
    end
  end

endmodule

`default_nettype wire
