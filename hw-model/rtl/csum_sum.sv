// Ones' complement sum (RFC 1071) of selected bytes of a frame, one beat a cycle.
//
//   data, mask --> 4 masked words --> sum of groups --> accumulate --> fold --> fold --> sum
//                  group_q            beat_q            acc_q          fold_q   sum_q
//
// Latency 5 cycles from the last beat to sum_valid_o, throughput one beat a cycle, frames back to
// back.
//
// Words are lanes {1,0}, {3,2}, ... with the lower lane in the low byte: the sum is that of the
// frame's big-endian words with its two bytes exchanged, since a ones' complement sum does not care
// in which byte order it is made (RFC 1071, 2 (B)). A byte that is masked out counts as zero.
// Exact for frames of up to 65,535 bytes. clear_i forgets what is under way.

`default_nettype none

module csum_sum #(
  parameter int unsigned DataW  = 512,
  localparam int unsigned Bytes = DataW / 8
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,
  input  wire logic             clear_i,

  input  wire logic             valid_i,
  input  wire logic             first_i,
  input  wire logic             last_i,
  input  wire logic [DataW-1:0] data_i,
  input  wire logic [Bytes-1:0] mask_i,

  output logic                  sum_valid_o,   // a pulse per frame
  output logic [15:0]           sum_o
);

  localparam int unsigned Groups = DataW / 64;

  if (DataW < 64 || DataW > 512 || (DataW & (DataW - 1)) != 0) begin : gen_width_check
    $error("csum_sum: DataW must be 64, 128, 256 or 512");
  end

  logic group_valid_q, group_first_q, group_last_q;
  logic beat_valid_q, beat_first_q, beat_last_q;
  logic        acc_last_q;
  logic        fold_valid_q;
  logic        sum_valid_q;
  logic [17:0] group_q [Groups];
  logic [20:0] beat_d;
  logic [20:0] beat_q;
  logic [31:0] acc_q;
  logic [16:0] fold_q;
  logic [15:0] sum_q;

  always_ff @(posedge clk_i) begin
    if (!rst_ni || clear_i) begin
      group_valid_q <= 1'b0;
      beat_valid_q  <= 1'b0;
      acc_last_q    <= 1'b0;
      fold_valid_q  <= 1'b0;
      sum_valid_q   <= 1'b0;
    end else begin
      group_valid_q <= valid_i;
      beat_valid_q  <= group_valid_q;
      acc_last_q    <= beat_valid_q && beat_last_q;
      fold_valid_q  <= acc_last_q;
      sum_valid_q   <= fold_valid_q;
    end
  end

  function automatic logic [15:0] pick(logic [15:0] word, logic [1:0] mask);
    return word & {{8{mask[1]}}, {8{mask[0]}}};
  endfunction

  always_comb begin
    beat_d = '0;
    for (int unsigned g = 0; g < Groups; g++) beat_d += 21'(group_q[g]);
  end

  always_ff @(posedge clk_i) begin
    group_first_q <= first_i;
    group_last_q  <= last_i;
    if (valid_i) begin
      for (int unsigned g = 0; g < Groups; g++) begin
        group_q[g] <= 18'(pick(data_i[64*g+:16], mask_i[8*g+:2])) +
            18'(pick(data_i[64*g+16+:16], mask_i[8*g+2+:2])) +
            18'(pick(data_i[64*g+32+:16], mask_i[8*g+4+:2])) +
            18'(pick(data_i[64*g+48+:16], mask_i[8*g+6+:2]));
      end
    end

    beat_first_q <= group_first_q;
    beat_last_q  <= group_last_q;
    if (group_valid_q) beat_q <= beat_d;

    // 32,768 words of at most 0xFFFF do not overflow 32 bits.
    if (beat_valid_q) acc_q <= (beat_first_q ? '0 : acc_q) + 32'(beat_q);

    if (acc_last_q) fold_q <= 17'(acc_q[31:16]) + 17'(acc_q[15:0]);
    // At most 0x1FFFE, so that the carry does not carry again.
    if (fold_valid_q) sum_q <= fold_q[15:0] + 16'(fold_q[16]);
  end

  assign sum_valid_o = sum_valid_q;
  assign sum_o       = sum_q;

endmodule

`default_nettype wire
