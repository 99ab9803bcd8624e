// Skid buffer: cuts both the forward and the backward path of a valid/ready stream.
//
//   in --> [ skid_q ] --> [ out_q ] --> out          in_ready_o = skid_q is free, a register
//
// Latency 1 cycle, throughput one word a cycle, two words of storage. Assumes nothing of its
// neighbours beyond the stream rule that data is stable while valid waits for ready.

`default_nettype none

module skid_buffer #(
  parameter int unsigned Width = 8
) (
  input  wire logic             clk_i,
  input  wire logic             rst_ni,

  input  wire logic             in_valid_i,
  output logic                  in_ready_o,
  input  wire logic [Width-1:0] in_data_i,

  output logic                  out_valid_o,
  input  wire logic             out_ready_i,
  output logic [Width-1:0]      out_data_o
);

  logic             out_valid_q;
  logic             skid_valid_q;
  logic [Width-1:0] out_q;
  logic [Width-1:0] skid_q;

  logic in_take;
  logic out_free;

  assign in_ready_o  = !skid_valid_q;
  assign out_valid_o = out_valid_q;
  assign out_data_o  = out_q;
  assign in_take     = in_valid_i && in_ready_o;
  assign out_free    = !out_valid_q || out_ready_i;

  always_ff @(posedge clk_i) begin
    if (!rst_ni) begin
      out_valid_q  <= 1'b0;
      skid_valid_q <= 1'b0;
    end else begin
      if (out_free) begin
        out_valid_q  <= skid_valid_q || in_take;
        skid_valid_q <= 1'b0;
      end else if (in_take) begin
        skid_valid_q <= 1'b1;
      end
    end
  end

  always_ff @(posedge clk_i) begin
    if (out_free) begin
      if (skid_valid_q) out_q <= skid_q;
      else if (in_take) out_q <= in_data_i;
    end
    if (in_take) skid_q <= in_data_i;
  end

  // Properties.
  logic             past_q;
  logic             past_stalled_q;
  logic [Width-1:0] past_data_q;
  always_ff @(posedge clk_i) begin
    past_q         <= rst_ni;
    past_stalled_q <= rst_ni && out_valid_o && !out_ready_i;
    past_data_q    <= out_data_o;
    if (rst_ni && past_q) begin
      assert (!skid_valid_q || out_valid_q);
      if (past_stalled_q) begin
        assert (out_valid_o);
        assert (out_data_o == past_data_q);
      end
    end
  end

endmodule

`default_nettype wire
